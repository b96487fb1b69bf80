"""Determines the name, tags and parameters of the MLflow run before the first node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline.git import record_git
from resnet50_pipeline.hooks.progress import select_nodes
from resnet50_pipeline.parameters import TrainingParameters, read_group
from resnet50_pipeline.pipeline_registry import SELECTING_OPTIONS, STAGES
from resnet50_pipeline.preflight.training_tags import describe_training
from resnet50_pipeline.recipes import RECIPE

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import RunDescription

# This group is excluded, because it does not affect the results, and a database URI may contain a password.
_NOT_LOGGED = frozenset({"tracking"})
# Groups whose changes appear in a run's name. MLflow's run list has no room for more.
_NAMED_GROUPS = ("recipe", "training", "dataset", "data_preparation")
_UNNAMED = ("training.launch.", "training.resume")
_SHORT_NAMES = {"training.lr.learning_rate": "lr"}
_MAX_CHANGES, _MAX_VALUE_LENGTH = 3, 24


def describe_run(
    run_params: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any], project_path: Path
) -> RunDescription:
    """Return the name, tags and parameters of a run. The parameters include only groups that its nodes use."""
    from resnet50_pipeline.tracking.parent import RUN_NAME_VARIABLE, find_parent, given_tags
    from resnet50_pipeline.tracking.runs import STAGE_TAG, RunDescription

    environment = run_params["env"] or "local"
    stages = sorted(run_params["pipeline_names"] or (), key=_position_in_chain)
    parameters = catalog.load("parameters")
    training = read_group(parameters, "training", TrainingParameters)
    tags = describe_training(training, parameters.get(RECIPE), environment, record_git(project_path))
    tags["kedro.pipelines"] = ",".join(stages) or "__default__"
    if run_params.get("only_missing_outputs") or any(run_params[option] for option in SELECTING_OPTIONS):
        tags["kedro.nodes"] = ",".join(node.name for node in select_nodes(run_params, pipeline, catalog))
    parent = find_parent()
    if parent is not None and parent.stage:
        tags[STAGE_TAG] = parent.stage
    started = datetime.now().astimezone()
    given = os.environ.get(RUN_NAME_VARIABLE)
    what = [given] if given else [*_name_changes(run_params.get("runtime_params") or {}), *_shorten(stages)]
    return RunDescription(
        session=str(run_params["run_id"]),
        name=" ".join([training.arch.name, environment, *what, f"{started:%Y-%m-%d %H:%M}"]),
        tags={**given_tags(), **tags},
        params={group: catalog.load(f"params:{group}") for group in _used_groups(pipeline)},
        parent=parent,
    )


def _used_groups(pipeline: Pipeline) -> list[str]:
    inputs = pipeline.inputs()
    groups = {name.removeprefix("params:").split(".")[0] for name in inputs if name.startswith("params:")}
    return sorted(groups - _NOT_LOGGED)


def _shorten(stages: list[str]) -> list[str]:
    """Shorten the stages in a run name to at most two, so that MLflow's UI does not cut off the date at the end."""
    return stages if len(stages) < 3 else [f"{stages[0]}…{stages[-1]}"]


def _name_changes(given: Mapping[str, Any]) -> list[str]:
    """Return the values of `--params` that change the results, such as `lr=0.01`, to tell runs apart."""
    from resnet50_pipeline.tracking.limits import shorten
    from resnet50_pipeline.tracking.runs import flatten_params

    changes = [
        f"{_SHORT_NAMES.get(path, path.rpartition('.')[2])}={shorten(value, _MAX_VALUE_LENGTH)}"
        for path, value in flatten_params({key: given[key] for key in _NAMED_GROUPS if key in given}).items()
        if not path.startswith(_UNNAMED)
    ]
    rest = len(changes) - _MAX_CHANGES
    return changes[:_MAX_CHANGES] + ([f"(+{rest})"] if rest > 0 else [])


def _position_in_chain(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), stage)
