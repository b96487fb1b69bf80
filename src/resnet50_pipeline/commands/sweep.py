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
from resnet50_pipeline.recipes import RECIPE
from resnet50_pipeline.text import align_columns, pluralize
from resnet50_pipeline.training_dir import RUN_DIR

if TYPE_CHECKING:
    from pathlib import Path

    from resnet50_pipeline.sweeps.plan import SweepPlan
    from resnet50_pipeline.sweeps.study import TrialRow
    from resnet50_pipeline.tracking.runs import RunDescription


@click.command("sweep", params=[*CONFIGURATION_OPTIONS])
@click.option("--show", is_flag=True, help="Print the trials of the study and exit.")
@click.option("--give-up", type=click.IntRange(min=0), help="Record the stopped trial N as failed and exit.")
@click.pass_context
def sweep(context: click.Context, /, *, show: bool, give_up: int | None, **options: Any) -> None:
    """Run trials with values from `sweep.space` until the study has `sweep.trials` trials.

    If a sweep is stopped or killed, run the command again: finished trials count, and the unfinished one resumes from
    its last checkpoint set. Several sweeps can work on the same study at once.
    """
    with reporting_errors(context):
        project_path = enter_configured_project(options)
        plan, recipe = plan_sweep(options, project_path)
        from resnet50_pipeline.sweeps.study import Study, study_exists

        if not show and give_up is None:
            from resnet50_pipeline.sweeps.sweep import run_sweep

            rows = run_sweep(plan, _describe(plan, recipe))
        elif study_exists(plan.sweep):
            study = Study(plan.sweep)
            if give_up is not None:
                study.give_up(give_up)
            rows = study.rows()
        else:
            click.echo(
                f"study {plan.sweep.study} does not exist in {plan.sweep.folder} → start the study with `kedro sweep`"
            )
            return
        click.echo("\n".join(render_table(rows, plan.sweep)))
        if (page := plan.sweep.folder / "report" / "index.html").is_file():
            click.echo(f"report: {page}")


def plan_sweep(options: dict[str, Any], project_path: Path) -> tuple[SweepPlan, str | None]:
    """Return the plan for a sweep with these options, and the name of its recipe.

    Raises:
        ParameterError: if a parameter group or the search space is invalid, or if Optuna is not installed.
        DatasetNotFoundError: if the dataset does not exist.
    """
    from resnet50_pipeline.sweeps.plan import SweepPlan
    from resnet50_pipeline.sweeps.space import require_space

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
        validation_report=project_path / configuration["catalog"]["validation_report"]["filepath"],
        project_path=project_path,
        environment=environment,
        conf_source=options["conf_source"],
        given={key: value for key, value in given.items() if key not in ("sweep", RUN_DIR)},
        data_stages=STAGES[:3] if is_own_sample else STAGES[1:3],
    )
    require_space(plan.sweep.ranges, parameters["training"])
    if not is_own_sample:
        root = find_dataset_root(configuration, project_path)
        require_dataset(root, dataset)
    return plan, parameters.get(RECIPE)


def render_table(rows: Sequence[TrialRow], sweep: SweepParameters) -> list[str]:
    """Return the lines of the trial table, followed by a line with the number of trials in each state."""
    from resnet50_pipeline.reporting.run_pages.sweep_page import format_cell
    from resnet50_pipeline.sweeps.study import count_states

    paths = list(sweep.ranges)
    names = [path.removeprefix("training.") for path in paths]
    table = [["", "trial", "state", sweep.metric, "epochs", "time", *names, ""]]
    for row in rows:
        value = "" if row.value is None else f"{row.value:.4f}"
        params = [format_cell(row.params.get(path)) for path in paths]
        mark, error = "*" if row.is_best else "", "".join(row.detail.splitlines()[:1])
        table.append([mark, str(row.number), row.state, value, str(row.epochs), f"{row.seconds:.0f} s", *params, error])
    best = "".join(f"; best: trial {row.number}, {sweep.metric} {row.value:.4f}" for row in rows if row.is_best)
    return [
        *align_columns(table),
        f"study {sweep.study}, {pluralize(sweep.trials, 'trial')}: {count_states(rows)}{best}",
    ]


def _describe(plan: SweepPlan, recipe: str | None) -> RunDescription:
    from resnet50_pipeline.tracking.runs import PARENT_KIND_TAG, RunDescription

    environment, study = plan.environment or "local", plan.sweep.study
    tags = describe_training(plan.training, recipe, environment, plan.project_path)
    return RunDescription(
        session=f"sweep-{study}-{uuid.uuid4().hex[:12]}",
        name=f"{plan.training.arch.name} {environment} sweep {study} {datetime.now().astimezone():%Y-%m-%d %H:%M}",
        tags={**tags, PARENT_KIND_TAG: "sweep", "sweep.study": study},
        params={"sweep": plan.sweep.model_dump(mode="json", exclude={"storage"})},  # storage may contain a password
    )
