"""What is known of a Kedro run before its first node: name, tags and parameters of the MLflow run."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline import __version__
from resnet50_pipeline.parameters import Group, TrainingParameters, as_group
from resnet50_pipeline.pipeline_registry import STAGES
from resnet50_pipeline.recipes import RECIPE

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import RunDescription

# Says where runs go and not what they are; and a database's address may hold a password.
_NOT_LOGGED = frozenset({"tracking"})

# What `kedro run` takes to leave out nodes of the pipelines.
SELECTING_OPTIONS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")


def describe_run(
    run_params: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any], project_path: Path
) -> RunDescription:
    """Return name, tags and parameters of a run: the groups that its nodes take, as Kedro has checked them."""
    from resnet50_pipeline.tracking.parent import RUN_NAME_VARIABLE, find_parent, given_tags
    from resnet50_pipeline.tracking.runs import STAGE_TAG, RunDescription

    environment = run_params["env"] or "local"
    stages = sorted(run_params["pipeline_names"] or (), key=_place_in_chain)
    training = read_group(catalog, "training", TrainingParameters)
    tags = describe_training(training, catalog.load("parameters").get(RECIPE), environment, project_path)
    tags["kedro.pipelines"] = ",".join(stages) or "__default__"
    if any(run_params[option] for option in SELECTING_OPTIONS):
        tags["kedro.nodes"] = ",".join(node.name for node in pipeline.nodes)
    parent = find_parent()
    if parent is not None and parent.stage:
        tags[STAGE_TAG] = parent.stage
    started = datetime.now().astimezone()
    given = os.environ.get(RUN_NAME_VARIABLE)
    what = [given] if given else _shorten(stages)
    return RunDescription(
        session=str(run_params["run_id"]),
        name=" ".join([training.arch.name, environment, *what, f"{started:%Y-%m-%d %H:%M}"]),
        tags={**given_tags(), **tags},
        params={group: catalog.load(f"params:{group}") for group in _used_groups(pipeline)},
        parent=parent,
    )


def describe_training(
    training: TrainingParameters, recipe: str | None, environment: str, project_path: Path
) -> dict[str, str]:
    """Return the tags that say which code trains what, where."""
    from resnet50_pipeline.git import describe_git

    git = describe_git(project_path)
    tags = {
        "git_commit": git.commit,
        "git_dirty": str(git.is_dirty).lower(),
        "environment": environment,
        "recipe": f"{training.arch.name}/{recipe or environment}",
        "engine": training.engine,
        "devices": f"{training.launch.device}:{','.join(map(str, training.launch.devices))}",
        "project_version": __version__,
        "mlflow.source.name": "resnet50-pipeline",
        "mlflow.source.type": "PROJECT",
        "mlflow.user": _user(),
    }
    if git.has_commit:
        tags["mlflow.source.git.commit"] = git.commit
    return tags


def read_group(catalog: CatalogProtocol[Any, Any], group: str, model: type[Group]) -> Group:
    """Return a parameter group as its model; Kedro checks only those that a node of the run takes.

    Raises:
        ParameterError: the group breaks its rules.
    """
    return as_group(catalog.load(f"params:{group}"), group, model)


def _used_groups(pipeline: Pipeline) -> list[str]:
    inputs = pipeline.inputs()
    groups = {name.removeprefix("params:").split(".")[0] for name in inputs if name.startswith("params:")}
    return sorted(groups - _NOT_LOGGED)


def _shorten(stages: list[str]) -> list[str]:
    """Return what of the stages a name has room for: MLflow's page cuts long ones, and their end tells them apart."""
    return stages if len(stages) < 3 else [f"{stages[0]}…{stages[-1]}"]


def _place_in_chain(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), stage)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
