"""`kedro sweep`: tries values of parameters, a `kedro run` each, and goes on where an earlier one stopped."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    environment_of,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.hooks.description import describe_training
from resnet50_pipeline.hooks.preflight import require_known_groups
from resnet50_pipeline.parameters import (
    DatasetParameters,
    SweepParameters,
    TrackingParameters,
    TrainingParameters,
    as_group,
)
from resnet50_pipeline.pipeline_registry import STAGES, makes_sample
from resnet50_pipeline.preflight.dataset import require_dataset
from resnet50_pipeline.preflight.plan import find_workspace
from resnet50_pipeline.recipes import RECIPE
from resnet50_pipeline.training_dir import RUN_DIR

if TYPE_CHECKING:
    from resnet50_pipeline.sweeps.plan import SweepPlan
    from resnet50_pipeline.sweeps.study import TrialRow
    from resnet50_pipeline.tracking.runs import RunDescription

_NOT_OF_TRIALS = frozenset({"sweep", RUN_DIR})


@click.command("sweep", params=[*CONFIGURATION_OPTIONS])
@click.option("--show", is_flag=True, help="Print the trials of the study, and start nothing.")
@click.option("--give-up", type=click.IntRange(min=0), help="Count trial N, which was stopped, as failed; no other.")
@click.pass_context
def sweep(context: click.Context, /, *, show: bool, give_up: int | None, **options: Any) -> None:
    """Try values of `sweep.space`, each in a training of its own, until there are `sweep.trials`.

    Started again it goes on, also after a kill: trials that have ended count, and the one that ran goes on from its
    last checkpoint set. Two of them work on one study side by side.
    """
    with ending_clearly(context):
        project_path = enter_configured_project(options)
        log_plain_lines_unless_in_a_terminal()
        plan, description = plan_sweep(options, project_path)
        from resnet50_pipeline.sweeps.study import Study, study_exists

        if show or give_up is not None:
            if not study_exists(plan.sweep):
                click.echo(f"there is no study {plan.sweep.study} in {plan.sweep.folder} yet; kedro sweep begins it")
                return
            study = Study(plan.sweep)
            if give_up is not None:
                study.give_up(give_up)
            rows = study.rows()
        else:
            from resnet50_pipeline.sweeps.sweep import run_sweep

            rows = run_sweep(plan, description)
        click.echo("\n".join(render_table(rows, plan.sweep)))


def plan_sweep(options: dict[str, Any], project_path: Path) -> tuple[SweepPlan, RunDescription]:
    """Return what a sweep with these options is going to do, and what its MLflow run is called.

    Raises:
        ParameterError: a group breaks its rules, or the space names no parameter or a value out of its range; Optuna
            is missing.
        DatasetNotFoundError: the data set is not there.
    """
    from resnet50_pipeline.sweeps.optional import import_optuna
    from resnet50_pipeline.sweeps.plan import SweepPlan
    from resnet50_pipeline.sweeps.space import require_space

    configuration = load_configuration(options, project_path)
    parameters, catalog = configuration["parameters"], configuration["catalog"]
    require_known_groups(parameters)
    sweep = as_group(parameters.get("sweep"), "sweep", SweepParameters)
    dataset = as_group(parameters.get("dataset"), "dataset", DatasetParameters)
    training = as_group(parameters.get("training"), "training", TrainingParameters)
    require_space(sweep.tried, parameters["training"])
    import_optuna()
    environment = environment_of(options)
    is_own_sample = makes_sample(environment) and "root" not in (options["params"] or {}).get("dataset", {})
    if not is_own_sample:
        require_dataset(parameters)
    places = {name: project_path / catalog[name]["filepath"] for name in ("manifest", "training_dir")}
    plan = SweepPlan(
        sweep=sweep,
        dataset=dataset,
        training=training,
        tracking=as_group(parameters.get("tracking"), "tracking", TrackingParameters),
        workspace=find_workspace(places) or project_path,
        validation_report=project_path / catalog["validation_report"]["filepath"],
        project_path=project_path,
        environment=environment,
        conf_source=options["conf_source"],
        given={key: value for key, value in (options["params"] or {}).items() if key not in _NOT_OF_TRIALS},
        data_stages=STAGES[:3] if is_own_sample else STAGES[1:3],
    )
    return plan, _describe(plan, parameters.get(RECIPE))


def render_table(rows: Sequence[TrialRow], sweep: SweepParameters) -> list[str]:
    """Return the lines of the table of trials, and what sums them up."""
    paths = list(sweep.tried)
    head = ["", "trial", "state", sweep.metric, "epochs", "time", *(path.removeprefix("training.") for path in paths)]
    cells = [
        [
            "*" if row.is_best else "",
            str(row.number),
            row.state,
            "" if row.value is None else f"{row.value:.4f}",
            str(row.epochs),
            f"{row.seconds:.0f} s",
            *(_shown(row.params.get(path, "")) for path in paths),
            row.detail.splitlines()[0] if row.detail else "",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *cells]) for column in range(len(head))]
    lines = [
        "  ".join(
            [*(text.ljust(width) for text, width in zip(line, widths, strict=False)), *line[len(widths) :]]
        ).rstrip()
        for line in [head, *cells]
    ]
    counts = ", ".join(
        f"{sum(row.state == state for row in rows)} {state}" for state in dict.fromkeys(row.state for row in rows)
    )
    best = next((row for row in rows if row.is_best), None)
    found = f"; best: trial {best.number}, {sweep.metric} {best.value:.4f}" if best and best.value is not None else ""
    return [*lines, f"study {sweep.study}, {sweep.trials} trials: {counts or 'none yet'}{found}"]


def _describe(plan: SweepPlan, recipe: str | None) -> RunDescription:
    from resnet50_pipeline.tracking.runs import PARENT_KIND_TAG, RunDescription

    environment = plan.environment or "local"
    started = datetime.now().astimezone()
    shown = plan.sweep.model_dump(mode="json", exclude={"storage"})  # which may hold a password
    return RunDescription(
        session=f"sweep-{plan.sweep.study}-{uuid.uuid4().hex[:12]}",
        name=f"{plan.training.arch.name} {environment} sweep {plan.sweep.study} {started:%Y-%m-%d %H:%M}",
        tags={
            **describe_training(plan.training, recipe, environment, plan.project_path),
            PARENT_KIND_TAG: "sweep",
            "sweep.study": plan.sweep.study,
        },
        params={"sweep": shown},
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
