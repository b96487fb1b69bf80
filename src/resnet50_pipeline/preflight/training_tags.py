"""Defines the MLflow tags that identify a training run: code, recipe, engine and devices."""

from __future__ import annotations

import logging

from resnet50_pipeline import __version__
from resnet50_pipeline.git import GitState
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.processes.user import user_name

logger = logging.getLogger(__name__)


def describe_training(
    training: TrainingParameters, recipe: str | None, environment: str, git: GitState
) -> dict[str, str]:
    """Return the tags, keyed by name. `recipe` is None if the environment does not use a recipe."""
    if git.problem:
        logger.warning("the commit of this run is not recorded in MLflow, because git failed: %s", git.problem)
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
        "mlflow.user": user_name(),
    }
    if git.has_commit:
        tags["mlflow.source.git.commit"] = git.commit
    return tags
