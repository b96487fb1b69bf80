"""The MLflow run of a whole sweep, under which those of its trials lie; a sweep that goes on has the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnet50_pipeline.sweeps.plan import SweepPlan, training_dir_of
from resnet50_pipeline.sweeps.study import Study, TrialRow
from resnet50_pipeline.tracking.parent import (
    KIND_VARIABLE,
    NAME_VARIABLE,
    RUN_NAME_VARIABLE,
    SESSION_VARIABLE,
    TAGS_VARIABLE,
)

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun

SESSION_NOTE = "mlflow_session"
TRIAL_TAG, STATE_TAG, STUDY_TAG = "sweep.trial", "sweep.state", "sweep.study"
_FOLDER = "sweep"


def open_parent(plan: SweepPlan, study: Study, description: RunDescription) -> TrackedRun:
    """Open the run of the sweep, or go on with it."""
    from resnet50_pipeline.tracking.runs import open_run

    known = study.get_note(SESSION_NOTE)
    if known is None:
        study.set_note(SESSION_NOTE, description.session)
    else:
        description = replace(description, session=known, continues=known)
    return open_run(description, plan.tracking, plan.project_path)


def child_environment(session: str, plan: SweepPlan, name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make a `kedro run` a child of the sweep's run."""
    return {
        SESSION_VARIABLE: session,
        KIND_VARIABLE: "sweep",
        NAME_VARIABLE: f"sweep {plan.sweep.study}",
        RUN_NAME_VARIABLE: name,
        TAGS_VARIABLE: json.dumps({STUDY_TAG: plan.sweep.study, **tags}),
    }


def trial_tags(number: int, params: Mapping[str, object]) -> dict[str, str]:
    """Return the tags of a trial's run: by its number, and by the values that were chosen, runs can be searched."""
    return {TRIAL_TAG: str(number), **{f"sweep.{path}": str(value) for path, value in params.items()}}


def tell_trial_state(parent: TrackedRun, folder: Path, state: str) -> None:
    """Say of a trial's own run what became of the trial: one that was pruned is KILLED for MLflow."""
    from resnet50_pipeline.tracking.curves import session_of

    if session := session_of(training_dir_of(folder)):
        parent.tag_run(session, {STATE_TAG: state})


def tell_progress(parent: TrackedRun, rows: Sequence[TrialRow], last: int) -> None:
    """Show the best trial so far, and draw value and best value over the trials."""
    by_number = {row.number: row for row in rows}
    best = next((row for row in rows if row.is_best), None)
    counts = {f"sweep.{state}": sum(row.state == state for row in rows) for state in ("complete", "pruned", "failed")}
    parent.set_tags({key: str(count) for key, count in counts.items()})
    if by_number[last].state == "complete" and (value := by_number[last].value) is not None:
        parent.log_metrics({"sweep/value": value}, step=last)
    if best is not None and best.value is not None:
        parent.log_metrics({"sweep/best_value": best.value}, step=last)
        parent.set_tags(
            {
                "sweep.best_trial": str(best.number),
                "sweep.best_params": json.dumps(best.params, sort_keys=True),
                **{f"sweep.best.{path}": str(value) for path, value in best.params.items()},
            }
        )


def log_pictures(parent: TrackedRun, folder: Path) -> None:
    """Upload the table and the pictures of the sweep."""
    for path in sorted(folder.iterdir()):
        parent.log_artifact(path, _FOLDER)
