"""Implements `kedro sweep`, which tries parameter values with one `kedro run` per trial."""

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
from resnet50_pipeline.git import describe_git
from resnet50_pipeline.parameters import (
    DatasetParameters,
    SweepParameters,
    TrackingParameters,
    TrainingParameters,
    read_group,
)
from resnet50_pipeline.pipeline_registry import STAGES, makes_sample
from resnet50_pipeline.preflight.dataset import require_dataset
from resnet50_pipeline.preflight.parameter_groups import require_known_groups
from resnet50_pipeline.preflight.training_tags import describe_training
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.recipes import RECIPE
from resnet50_pipeline.text import align_columns
from resnet50_pipeline.training_dir import RUN_DIR

if TYPE_CHECKING:
    from pathlib import Path

    from resnet50_pipeline.sweeps.study import TrialRow
    from resnet50_pipeline.sweeps.sweep import SweepPlan
    from resnet50_pipeline.tracking.runs import RunDescription


@click.command("sweep", params=[*CONFIGURATION_OPTIONS])
@click.option("--show", is_flag=True, help="Print the trials of the study and exit.")
@click.pass_context
def sweep(context: click.Context, /, *, show: bool, **options: Any) -> None:
    """Run trials with values from `sweep.space` until the study has `sweep.trials` trials.

    If a sweep is stopped or killed, run the command again: finished trials count, and the unfinished one resumes from
    its last checkpoint set. Several sweeps can work on the same study at once.
    """
    with reporting_errors(context):
        plan = plan_sweep(options, enter_configured_project(options))
        from resnet50_pipeline.sweeps.study import Study
        from resnet50_pipeline.sweeps.sweep import run_sweep

        folder = plan.sweep.folder
        if show and plan.sweep.storage is None and not folder.is_dir():
            command = other_command("sweep")
            click.echo(f"study {plan.sweep.study} does not exist in {folder} → start the study with `{command}`")
            return
        rows = Study(plan.sweep).rows() if show else run_sweep(plan, _describe(plan))
        click.echo("\n".join(render_table(rows, plan.sweep)))
        if (page := folder / "report" / "index.html").is_file():
            click.echo(f"report: {page}")


def plan_sweep(options: dict[str, Any], project_path: Path) -> SweepPlan:
    """Return the plan for a sweep with these options.

    Raises:
        ParameterError: if a parameter group or the search space is invalid, or if Optuna is not installed.
        DatasetNotFoundError: if the dataset does not exist.
    """
    from resnet50_pipeline.sweeps.space import require_space
    from resnet50_pipeline.sweeps.sweep import SweepPlan

    configuration = load_configuration(options, project_path)
    parameters, given = configuration["parameters"], options["params"] or {}
    require_known_groups(parameters)
    dataset = read_group(parameters, "dataset", DatasetParameters)  # report errors before the data stages start
    environment = environment_of(options)
    is_own_sample = makes_sample(environment) and "root" not in given.get("dataset", {})
    plan = SweepPlan(
        sweep=read_group(parameters, "sweep", SweepParameters),
        training=read_group(parameters, "training", TrainingParameters),
        tracking=read_group(parameters, "tracking", TrackingParameters),
        recipe=parameters.get(RECIPE),
        validation_report=project_path / configuration["catalog"]["validation_report"]["filepath"],
        project_path=project_path,
        environment=environment,
        conf_source=options["conf_source"],
        given={key: value for key, value in given.items() if key not in ("sweep", RUN_DIR)},
        data_stages=STAGES[:3] if is_own_sample else STAGES[1:3],
    )
    require_space(plan.sweep.space, parameters["training"])
    if not is_own_sample:
        require_dataset(find_dataset_root(configuration, project_path), dataset)
    return plan


def render_table(rows: Sequence[TrialRow], sweep: SweepParameters) -> list[str]:
    """Return the lines of the trial table, followed by a line with the best value and the number of trials."""
    from resnet50_pipeline.reporting.run_pages.sweep_page import format_cell
    from resnet50_pipeline.sweeps.study import summarize

    names = [path.removeprefix("training.") for path in sweep.space]
    table = [["", "trial", "state", sweep.metric, "epochs", "time", *names, ""]]
    for row in rows:
        value = "" if row.value is None else f"{row.value:.4f}"
        params = [format_cell(row.params.get(path)) for path in sweep.space]
        mark, error = "*" if row.rank == 1 else "", "".join(row.detail.splitlines()[:1])
        table.append([mark, str(row.number), row.state, value, str(row.epochs), f"{row.seconds:.0f} s", *params, error])
    return [*align_columns(table), f"study {sweep.study}: {summarize(rows, sweep)}"]


def _describe(plan: SweepPlan) -> RunDescription:
    from resnet50_pipeline.tracking.runs import PARENT_KIND_TAG, RunDescription

    environment, study = plan.environment or "local", plan.sweep.study
    tags = describe_training(plan.training, plan.recipe, environment, describe_git(plan.project_path))
    return RunDescription(
        session=f"sweep-{study}-{uuid.uuid4().hex[:12]}",
        name=f"{plan.training.arch.name} {environment} sweep {study} {datetime.now().astimezone():%Y-%m-%d %H:%M}",
        tags={**tags, PARENT_KIND_TAG: "sweep", "sweep.study": study},
        params={"sweep": plan.sweep.model_dump(mode="json", exclude={"storage"})},  # storage may contain a password
    )
