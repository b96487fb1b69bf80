"""Implements `kedro folds`, which cross-validates with one `kedro run` per fold."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    environment_of,
    find_dataset_root,
    load_configuration,
)
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.git import describe_git
from resnet50_pipeline.imagenet.layout import find_folds
from resnet50_pipeline.parameters import DatasetParameters, TrackingParameters, TrainingParameters, read_group
from resnet50_pipeline.preflight.dataset import require_dataset
from resnet50_pipeline.preflight.parameter_groups import require_known_groups
from resnet50_pipeline.preflight.training_tags import describe_training
from resnet50_pipeline.recipes import RECIPE
from resnet50_pipeline.text import align_columns, format_duration, pluralize
from resnet50_pipeline.training_dir import DATA_DIR, RUN_DIR

if TYPE_CHECKING:
    from pathlib import Path

    from resnet50_pipeline.folds.plan import FoldsPlan
    from resnet50_pipeline.folds.results import FoldResult
    from resnet50_pipeline.tracking.runs import RunDescription

_FOLDER = "09_folds"


@click.command("folds", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def folds(context: click.Context, /, **options: Any) -> None:
    """Train and evaluate one model per fold of `kedro adopt --folds`, and print the mean and spread of the metrics.

    If the command is stopped or killed, run it again: finished folds are kept, and the unfinished one resumes from its
    last checkpoint set.
    """
    with reporting_errors(context):
        plan = plan_folds(options, enter_configured_project(options))
        from resnet50_pipeline.folds.cross_validation import run_folds

        click.echo("\n".join(render_table(run_folds(plan, _describe(plan)))))


def plan_folds(options: dict[str, Any], project_path: Path) -> FoldsPlan:
    """Return the plan for a cross-validation with these options.

    Raises:
        ParameterError: if a parameter group is invalid, or if the environment has no folds.
        DatasetNotFoundError: if the dataset does not exist.
    """
    from resnet50_pipeline.folds.plan import FoldsPlan

    configuration = load_configuration(options, project_path)
    parameters, given = configuration["parameters"], options["params"] or {}
    require_known_groups(parameters)
    dataset = read_group(parameters, "dataset", DatasetParameters)
    lists = find_folds(dataset.lists) if dataset.lists is not None else []
    environment = environment_of(options)
    if not lists:
        where = "dataset.lists is not set" if dataset.lists is None else f"{dataset.lists} contains no fold-1"
        raise ParameterError(
            f"the environment {environment or 'local'} has no folds ({where}) → run `kedro adopt PATH --folds 5`, "
            "then `kedro folds --env NAME`"
        )
    require_no_moves(dataset.patches)
    require_dataset(find_dataset_root(configuration, project_path), dataset)
    from pathlib import Path

    return FoldsPlan(
        lists=tuple(lists),
        patches=dataset.patches,
        folder=Path(configuration["globals"]["workspace"]) / _FOLDER,
        recipe=parameters.get(RECIPE),
        training=read_group(parameters, "training", TrainingParameters),
        tracking=read_group(parameters, "tracking", TrackingParameters),
        project_path=project_path,
        environment=environment,
        conf_source=options["conf_source"],
        given={key: value for key, value in given.items() if key not in (RUN_DIR, DATA_DIR)},
    )


def require_no_moves(patches: Path | None) -> None:
    """Raise an error if a patch moves an image, because each fold divides the train and val images differently.

    Raises:
        ParameterError: if a patch contains a move.
    """
    from resnet50_pipeline.imagenet.lists.patches import read_patches

    moving = [str(patch.file) for patch in read_patches(patches) if "move" in patch.content.counts]
    if moving:
        raise ParameterError(
            f"{', '.join(moving)}: moves images between train and val, but each fold divides them differently → set "
            "dataset.patches to a folder without moves"
        )


def render_table(results: Sequence[FoldResult]) -> list[str]:
    """Return the lines of the table: one per fold, then the mean and the standard deviation."""
    from resnet50_pipeline.folds.results import summarize

    table = [["fold", "images", "top-1", "balanced accuracy", "loss", "time"]]
    for one in results:
        values = [f"{one.top1:.2%}", f"{one.balanced_accuracy:.2%}", f"{one.loss:.4f}"]
        table.append([str(one.fold), f"{one.images:,}", *values, format_duration(one.seconds)])
    summaries = summarize(results)
    top1, balanced, loss = summaries["top1"], summaries["balanced_accuracy"], summaries["loss"]
    table.append(["mean", "", f"{top1.mean:.2%}", f"{balanced.mean:.2%}", f"{loss.mean:.4f}", ""])
    if top1.std is not None and balanced.std is not None and loss.std is not None:
        table.append(["std", "", f"{top1.std:.2%}", f"{balanced.std:.2%}", f"{loss.std:.4f}", ""])
    return [
        *align_columns(table),
        f"mean and sample standard deviation over n = {pluralize(top1.n, 'fold')}",
    ]


def _describe(plan: FoldsPlan) -> RunDescription:
    from resnet50_pipeline.tracking.runs import PARENT_KIND_TAG, RunDescription

    environment = plan.environment or "local"
    tags = describe_training(plan.training, plan.recipe, environment, describe_git(plan.project_path))
    return RunDescription(
        session=f"folds-{environment}-{uuid.uuid4().hex[:12]}",
        name=f"{plan.training.arch.name} {environment} folds {datetime.now().astimezone():%Y-%m-%d %H:%M}",
        tags={**tags, PARENT_KIND_TAG: "folds"},
        params={"training": plan.training, "folds": {"count": len(plan.lists)}},
    )
