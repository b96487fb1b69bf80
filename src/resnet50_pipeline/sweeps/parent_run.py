"""Records a sweep in MLflow as a run. The trial runs are its child runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from resnet50_pipeline.child_runs.parent_run import child_environment
from resnet50_pipeline.child_runs.run_file import training_dir_of
from resnet50_pipeline.sweeps.plan import SweepPlan
from resnet50_pipeline.sweeps.study import Study, TrialRow
from resnet50_pipeline.tracking.delivery.curve_cursor import read_session
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run

_SESSION = "mlflow_session"


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
    # The MLflow status does not show the state. For example, the run of a pruned trial is KILLED.
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
