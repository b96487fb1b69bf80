"""Runs a sweep: trial after trial, each a `kedro run` that is watched by its events, until there are enough."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet50_pipeline.events import EvalEnd
from resnet50_pipeline.exceptions import (
    NonFiniteLossError,
    OutputDirectoryInUseError,
    ParameterError,
    SweepStoppedError,
)
from resnet50_pipeline.interruption import raise_if_interrupted
from resnet50_pipeline.paddleclas.output_dir import find_holder
from resnet50_pipeline.sweeps import parent_run
from resnet50_pipeline.sweeps.kedro_run import EventTail, KedroRun
from resnet50_pipeline.sweeps.plan import LOG_FILE, SweepPlan, metrics_of, training_dir_of
from resnet50_pipeline.sweeps.study import ClaimedTrial, Study, TrialRow
from resnet50_pipeline.training_dir import checkpoints_dir, events_path

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import EndState, RunDescription, TrackedRun

logger = logging.getLogger(__name__)

_DATA_NOTE, _REGISTERED_NOTE = "data_digest", "registered_trial"
_POLL_SECONDS = 0.5


@dataclass
class _Watched:
    """What a trial's evaluations have said so far."""

    best: float | None = None
    is_given_up: bool = False


def run_sweep(plan: SweepPlan, description: RunDescription) -> list[TrialRow]:
    """Run trials until the study has `sweep.trials`, and return all of them.

    Raises:
        ParameterError: the study was begun with another space, metric or data.
        SweepStoppedError: a trial failed, or the data stages did.
        RunInterruptedError: a signal came; the trial that ran has saved a checkpoint set.
    """
    study = Study(plan.sweep)
    parent = parent_run.open_parent(plan, study, description)
    state: EndState = "KILLED"
    try:
        with study.alone():
            _prepare_data(plan, study, parent)
        while _run_next(plan, study, parent):
            pass
        _finish(plan, study, parent)
        state = "FINISHED"
    except (SweepStoppedError, ParameterError) as error:
        parent.set_tags({"error": str(error)})
        state = "FAILED"
        raise
    finally:
        parent.end(state)
    return study.rows()


def _prepare_data(plan: SweepPlan, study: Study, parent: TrackedRun) -> None:
    """Run the data stages, before the first trial of a study.

    Raises:
        SweepStoppedError: a stage failed.
    """
    if study.get_note(_DATA_NOTE) is None:
        log = study.folder / "data.log"
        logger.info("data stages: %s (log: %s)", ", ".join(plan.data_stages), log)
        environment = parent_run.child_environment(parent.session, plan, "data", {})
        run_file = plan.write_data_run_file()
        with KedroRun(run_file, log, environment, plan.project_path, 0.0) as run:
            exit_code = run.wait()
            if exit_code:
                raise SweepStoppedError(f"the data stages of the sweep failed: the run {run.describe_end(exit_code)}")
        study.set_note(_DATA_NOTE, _read_digest(plan.validation_report))


def _require_same_data(plan: SweepPlan, study: Study) -> None:
    """See that a trial has the data of those before it.

    Raises:
        ParameterError: it has not.
    """
    known, found = study.get_note(_DATA_NOTE), _read_digest(plan.validation_report)
    if found != known:
        raise ParameterError(
            f"the trials of study {plan.sweep.study} had the data {known}, and {plan.validation_report} names {found}: "
            f"they could not be compared → name another one (sweep.study), or bring the data back"
        )


def _read_digest(validation_report: Path) -> str:
    try:
        return str(json.loads(validation_report.read_text(encoding="utf-8"))["data_digest"])
    except FileNotFoundError:
        return "none (the file is not there)"


def _run_next(plan: SweepPlan, study: Study, parent: TrackedRun) -> bool:
    """Run a trial to its end; return False where there is none to run.

    Raises:
        SweepStoppedError: it failed.
        ParameterError: the data is no longer that of the trials before.
    """
    with study.next_trial() as trial:
        if trial is None:
            return False
        _require_same_data(plan, study)
        _wait_for_a_dying_run(trial.folder, plan.training.launch.stop_grace_seconds)
        how = "goes on" if trial.goes_on else f"of {plan.sweep.trials}"
        logger.info("trial %d %s: %s", trial.number, how, _shown(trial.params))
        run_file = plan.write_run_file(trial.folder, trial.params, "training", "evaluation")
        tags = parent_run.trial_tags(trial.number, trial.params)
        environment = parent_run.child_environment(parent.session, plan, f"trial {trial.number}", tags)
        grace = plan.training.launch.stop_grace_seconds
        watched = _Watched()
        tail = EventTail(events_path(training_dir_of(trial.folder)))
        with KedroRun(run_file, trial.folder / LOG_FILE, environment, plan.project_path, grace) as run:
            exit_code = run.wait(lambda: _look(plan, trial, tail, watched))
            _end_trial(plan, trial, watched, run, exit_code)
    rows = study.rows()
    row = rows[trial.number]
    parent_run.tell_trial_state(parent, trial.folder, row.state)
    parent_run.tell_progress(parent, rows, trial.number)
    value = "" if row.value is None else f", {plan.sweep.metric} {row.value:.4f}"
    best = next((f"; best: trial {other.number}, {other.value:.4f}" for other in rows if other.is_best), "")
    logger.info("trial %d is %s after %d epochs%s%s", row.number, row.state, row.epochs, value, best)
    if plan.sweep.keep == "best":
        _delete_checkpoints(study, rows)
    return True


def _look(plan: SweepPlan, trial: ClaimedTrial, tail: EventTail, watched: _Watched) -> bool:
    """Report the evaluations since the last look; return False where the trial is to be given up."""
    figure = plan.sweep.watched_figure
    for event in tail.read():
        if not isinstance(event, EvalEnd) or figure is None:
            continue
        value = float(getattr(event, figure))
        better = max if plan.sweep.direction == "maximize" else min
        watched.best = value if watched.best is None else better(watched.best, value)
        is_hopeless = trial.report(event.epoch, value)
        logger.info("trial %d, epoch %d: val/%s %.4f", trial.number, event.epoch, figure, value)
        # After the last epoch there is nothing to be saved.
        epochs = int(trial.params.get("training.epochs", plan.training.epochs))
        watched.is_given_up = watched.is_given_up or (is_hopeless and event.epoch < epochs)
    return not watched.is_given_up


def _end_trial(plan: SweepPlan, trial: ClaimedTrial, watched: _Watched, run: KedroRun, exit_code: int | None) -> None:
    """Tell Optuna how a trial ended.

    Raises:
        SweepStoppedError: it failed, and `sweep.on_error` is stop, or a signal of somebody else ended it.
    """
    if exit_code is None:
        trial.prune()
    elif exit_code == 0:
        trial.complete(_value_of(plan, trial, watched))
    elif exit_code == NonFiniteLossError.exit_code:
        trial.prune(has_diverged=True)
    elif plan.sweep.on_error == "next" and 0 < exit_code < 128:
        error = run.describe_end(exit_code)
        logger.warning("trial %d failed: the run %s", trial.number, error)
        trial.fail(error)
    else:
        raise SweepStoppedError(
            f"trial {trial.number} failed: the run {run.describe_end(exit_code)}\n"
            f"→ mend the cause and start the sweep again: it goes on with this trial. Or give the trial up, "
            f"`kedro sweep --give-up {trial.number}`, or set sweep.on_error to next"
        )


def _value_of(plan: SweepPlan, trial: ClaimedTrial, watched: _Watched) -> float:
    """Return the value of a trial that ended well."""
    room, _, name = plan.sweep.metric.partition("/")
    if room == "val" and watched.best is not None:
        return watched.best
    figures: Mapping[str, float] = json.loads(metrics_of(trial.folder).read_text(encoding="utf-8"))
    if name not in figures:
        raise ParameterError(
            f"sweep.metric is {plan.sweep.metric}, which is no figure of the evaluation; "
            f"known: {', '.join(sorted(figures))}"
        )
    return float(figures[name])


def _wait_for_a_dying_run(folder: Path, grace_seconds: float) -> None:
    """Wait for the run of a sweep that was killed: it saves a checkpoint set before it ends.

    Raises:
        OutputDirectoryInUseError: it does not end.
    """
    deadline = time.monotonic() + grace_seconds + 60
    while (holder := find_holder(folder)) is not None:
        if time.monotonic() > deadline:
            raise OutputDirectoryInUseError(
                f"{folder}: process {holder} of an earlier sweep does not end → kill {holder}"
            )
        raise_if_interrupted()
        time.sleep(_POLL_SECONDS)


def _delete_checkpoints(study: Study, rows: list[TrialRow]) -> None:
    """Delete the checkpoint sets of trials that have ended and are not the best."""
    for row in rows:
        if not row.is_best and row.state in ("complete", "pruned", "diverged"):
            shutil.rmtree(checkpoints_dir(training_dir_of(study.trial_folder(row.number))), ignore_errors=True)


def _finish(plan: SweepPlan, study: Study, parent: TrackedRun) -> None:
    """Draw the pictures, and register the best model where that is asked for and nobody did.

    Raises:
        SweepStoppedError: the registration failed.
    """
    rows = study.rows()
    parent_run.log_pictures(parent, write_pictures(plan, study))
    best = next((row for row in rows if row.is_best), None)
    if not plan.sweep.register_best or best is None or any(row.state in ("running", "elsewhere") for row in rows):
        return
    with study.alone():
        if study.get_note(_REGISTERED_NOTE) == str(best.number):
            return
        folder = study.trial_folder(best.number)
        run_file = plan.write_run_file(folder, best.params, "model_registration", name="register.yml")
        tags = parent_run.trial_tags(best.number, best.params)
        environment = parent_run.child_environment(parent.session, plan, f"trial {best.number} registered", tags)
        with KedroRun(run_file, folder / "register.log", environment, plan.project_path, 0.0) as run:
            if exit_code := run.wait():
                raise SweepStoppedError(
                    f"the model of trial {best.number} was not registered: the run {run.describe_end(exit_code)}"
                )
        study.set_note(_REGISTERED_NOTE, str(best.number))


def write_pictures(plan: SweepPlan, study: Study) -> Path:
    """Write the trials as a table and as pictures below the study's folder; return where."""
    from resnet50_pipeline.reporting.sweep_plots import write_sweep_plots

    folder = study.folder / "report"
    table = [
        {
            "trial": row.number,
            "state": row.state,
            "value": row.value,
            "epochs": row.epochs,
            "seconds": round(row.seconds, 1),
            **row.params,
        }
        for row in study.rows()
    ]
    write_sweep_plots(
        folder,
        table,
        study.importances(),
        metric=plan.sweep.metric,
        maximize=plan.sweep.direction == "maximize",
        log_scaled=[path for path, values in plan.sweep.tried.items() if getattr(values, "log", False)],
    )
    return folder


def _shown(params: Mapping[str, object]) -> str:
    return ", ".join(
        f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}" for path, value in params.items()
    )
