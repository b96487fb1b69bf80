"""Records a sweep in MLflow as a run. The trial runs are its child runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from resnet50_pipeline.child_runs.parent_run import ChildRow, child_environment, describe_parent
from resnet50_pipeline.child_runs.run_file import training_dir_of
from resnet50_pipeline.reporting.run_pages.sweep_page import format_cell
from resnet50_pipeline.sweeps.plan import SweepPlan
from resnet50_pipeline.sweeps.study import Study, TrialRow, count_states
from resnet50_pipeline.text import pluralize
from resnet50_pipeline.tracking.delivery.curve_cursor import read_session
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run

_SESSION = "mlflow_session"
_TRIALS_DESCRIBED = 5


def open_parent(plan: SweepPlan, study: Study, description: RunDescription) -> TrackedRun:
    """Open the sweep's MLflow run. A resumed sweep reuses the same run."""
    session = study.optuna_study.user_attrs.get(_SESSION)
    if session is None:
        study.optuna_study.set_user_attr(_SESSION, description.session)
    else:
        description = replace(description, session=session, continues=session)
    return open_run(description, plan.tracking, plan.project_path)


def environment_of_trial(
    parent: TrackedRun, study: str, name: str, number: int | None = None, params: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Return the environment variables that tag a trial's `kedro run` with the trial's number and values."""
    tags = {"sweep.study": study, **{f"sweep.{path}": str(value) for path, value in (params or {}).items()}}
    if number is not None:
        tags["sweep.trial"] = str(number)
    return child_environment(parent, "sweep", f"sweep {study}", name, tags)


def record_trial(parent: TrackedRun, folder: Path, rows: Sequence[TrialRow], number: int) -> None:
    """Tag a trial's run with the trial's state, and update the tags of the sweep's run."""
    trial = rows[number]
    # The MLflow status does not show the state: the run of a pruned trial, for example, is KILLED.
    if session := read_session(training_dir_of(folder)):
        parent.tag_run(session, {"sweep.state": trial.state})
    states = [row.state for row in rows]
    parent.set_tags({f"sweep.{state}": str(states.count(state)) for state in ("complete", "pruned", "failed")})
    if trial.state == "complete" and trial.value is not None:
        parent.log_metrics({"sweep/value": trial.value}, step=number)
    best = next((row for row in rows if row.is_best), None)
    if best is not None and best.value is not None:
        parent.log_metrics({"sweep/best_value": best.value}, step=number)
        parent.set_tags(
            {
                "sweep.best_trial": str(best.number),
                "sweep.best_params": json.dumps(best.params, sort_keys=True),
                **{f"sweep.best.{path}": str(value) for path, value in best.params.items()},
            }
        )


def describe_sweep(parent: TrackedRun, study: Study, files: Mapping[str, str]) -> None:
    """Describe the sweep's run in MLflow: the best trial, a table of the best trials with links, and artifacts.

    Args:
        parent: the sweep's run.
        study: the study.
        files: artifacts to link to, keyed by title.
    """
    rows, metric, paths = study.rows(), study.parameters.metric, list(study.parameters.ranges)
    complete = [row for row in rows if row.state == "complete" and row.value is not None]
    ranked = sorted(complete, key=lambda row: row.value or 0.0, reverse=study.parameters.direction == "maximize")
    counts = f"{pluralize(len(rows), 'trial')}: {count_states(rows)}"
    describe_parent(
        parent,
        f"{metric} {ranked[0].value:.4f} in trial {ranked[0].number} ({counts})" if ranked else counts,
        ["best trials", metric, *(f"`{path}`" for path in paths)],
        [
            ChildRow(
                f"trial {row.number}",
                [f"{row.value:.4f}", *(format_cell(row.params.get(path)) for path in paths)],
                study.trial_folder(row.number),
            )
            for row in ranked[:_TRIALS_DESCRIBED]
        ],
        files,
    )
