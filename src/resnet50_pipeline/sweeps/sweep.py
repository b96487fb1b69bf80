"""Runs the trials of a study, each as a `kedro run`, and prunes them based on their events."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import optuna
from optuna.trial import TrialState

from resnet50_pipeline.child_runs.kedro_run import describe_end, run_kedro, wait_for_orphan
from resnet50_pipeline.child_runs.run_file import metrics_path_of, training_dir_of
from resnet50_pipeline.events import EvalEnd, parse_event
from resnet50_pipeline.exceptions import (
    NonFiniteLossError,
    ParameterError,
    SweepStoppedError,
)
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.parent_run import describe_sweep, environment_of_trial, open_parent, record_trial
from resnet50_pipeline.sweeps.plan import SweepPlan
from resnet50_pipeline.sweeps.space import decode_params
from resnet50_pipeline.sweeps.study import DIVERGED, ERROR, Study, TrialRow
from resnet50_pipeline.tailing import Tail
from resnet50_pipeline.tracking.delivery.operations import EndState
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun
from resnet50_pipeline.training_dir import checkpoints_dir, events_path

logger = logging.getLogger(__name__)

# Attributes of Optuna's study.
_DATA_DIGEST, _REGISTERED = "data_digest", "registered_trial"


def run_sweep(plan: SweepPlan, description: RunDescription) -> list[TrialRow]:
    """Run trials until the study has `sweep.trials` trials, and return the state of all trials.

    Raises:
        ParameterError: if the study has a different space, metric or data.
        SweepStoppedError: if a trial or the data stages failed.
        RunInterruptedError: if this process received a signal. The running trial saves a checkpoint set first.
    """
    study = Study(plan.sweep)
    parent = open_parent(plan, study, description)
    state: EndState = "KILLED"
    try:
        with study.alone():
            _prepare_data(plan, study, parent)
        while _run_next_trial(plan, study, parent):
            pass
        from resnet50_pipeline.sweeps.report import write_report  # Plotly takes seconds to import

        with study.alone():
            written = write_report(study)
            for path in written:
                parent.log_artifact(path, "sweep")
            describe_sweep(parent, study, {path.name: f"sweep/{path.name}" for path in written})
            if plan.sweep.register_best:
                _register_best(plan, study, parent)
        state = "FINISHED"
    except (SweepStoppedError, ParameterError) as error:
        parent.set_tags({"error": str(error)})
        state = "FAILED"
        raise
    finally:
        parent.end(state)
    return study.rows()


def _prepare_data(plan: SweepPlan, study: Study, parent: TrackedRun) -> None:
    """Run the data stages unless an earlier sweep of this study has already run them."""
    if _DATA_DIGEST in study.optuna_study.user_attrs:
        return
    log = study.folder / "data.log"
    logger.info("running the data stages %s; log: %s", ", ".join(plan.data_stages), log)
    environment = environment_of_trial(parent, plan.sweep.study, "data")
    if exit_code := run_kedro(plan.write_data_file(), log, environment, plan.project_path):
        raise SweepStoppedError(f"the data stages of the sweep failed: the run {describe_end(log, exit_code)}")
    study.optuna_study.set_user_attr(_DATA_DIGEST, _read_digest(plan.validation_report))


def _require_same_data(plan: SweepPlan, study: Study) -> None:
    expected, found = study.optuna_study.user_attrs[_DATA_DIGEST], _read_digest(plan.validation_report)
    if found != expected:
        raise ParameterError(
            f"{plan.validation_report}: the data digest is {found}, but study {plan.sweep.study} was started with "
            f"{expected}, so new trials would not be comparable → set a different name in sweep.study, or restore the "
            "data"
        )


def _read_digest(validation_report: Path) -> str:
    try:
        return str(json.loads(validation_report.read_text(encoding="utf-8"))["data_digest"])
    except FileNotFoundError:
        return "none (the file does not exist)"


def _run_next_trial(plan: SweepPlan, study: Study, parent: TrackedRun) -> bool:
    """Run the next trial until it ends. Return False if the study has enough trials."""
    with study.next_trial() as trial:
        if trial is None:
            return False
        _require_same_data(plan, study)
        folder, params = study.trial_folder(trial.number), decode_params(trial.params)
        grace_seconds = plan.training.launch.stop_grace_seconds
        wait_for_orphan(folder, grace_seconds)
        logger.info("trial %d: %s", trial.number, ", ".join(f"{path}={value}" for path, value in params.items()))
        epochs = int(params.get("training.epochs", plan.training.epochs))
        watcher = TrialWatcher(plan.sweep, trial, events_path(training_dir_of(folder)), epochs)
        log = folder / "trial.log"
        exit_code = run_kedro(
            plan.write_trial_file(folder / "run.yml", params, "training", "evaluation"),
            log,
            environment_of_trial(parent, plan.sweep.study, f"trial {trial.number}", trial.number, params),
            plan.project_path,
            should_continue=watcher.should_continue,
            grace_seconds=grace_seconds,
        )
        _end_trial(plan, study, watcher, log, exit_code)
    rows = study.rows()
    row = rows[trial.number]
    record_trial(parent, folder, rows, trial.number)
    describe_sweep(parent, study, {})
    value = "" if row.value is None else f", {plan.sweep.metric} {row.value:.4f}"
    best = next((f"; best: trial {other.number}, {other.value:.4f}" for other in rows if other.is_best), "")
    logger.info("trial %d: %s after %d epochs%s%s", row.number, row.state, row.epochs, value, best)
    if plan.sweep.keep == "best":
        _delete_checkpoints(study, rows)
    return True


class TrialWatcher:
    """Follows the events of a training run, and reports its evaluations to Optuna.

    Attributes:
        trial: Optuna's trial.
        best: best value so far, including evaluations before a resume.
    """

    def __init__(self, sweep: SweepParameters, trial: optuna.Trial, events: Path, epochs: int) -> None:
        self.trial = trial
        self.best: float | None = None
        self._metric = sweep.pruning_metric
        self._better = max if sweep.direction == "maximize" else min
        self._epochs = epochs
        self._reported = set(trial.study.trials[trial.number].intermediate_values)
        self._is_pruned = False
        self._tail = Tail(events)

    def should_continue(self) -> bool:
        """Report the evaluations since the last call. Return False once the trial should be pruned."""
        for event in map(parse_event, self._tail.read_lines()):
            if self._metric is None or not isinstance(event, EvalEnd):
                continue
            value = float(getattr(event, self._metric))
            self.best = value if self.best is None else self._better(self.best, value)
            if event.epoch not in self._reported:  # a resumed run evaluates epochs again
                self._reported.add(event.epoch)
                self.trial.report(value, event.epoch)
            logger.info("trial %d, epoch %d: val/%s %.4f", self.trial.number, event.epoch, self._metric, value)
            # Pruning after the last epoch saves no time.
            self._is_pruned |= event.epoch < self._epochs and self.trial.should_prune()
        return not self._is_pruned


def _end_trial(plan: SweepPlan, study: Study, watcher: TrialWatcher, log: Path, exit_code: int | None) -> None:
    """Record the end of a trial in the study.

    Raises:
        SweepStoppedError: if the trial failed and `sweep.on_error` is stop, or if the trial was ended by a signal from
            another process.
    """
    trial = watcher.trial
    if exit_code == 0:
        study.optuna_study.tell(trial, _value_of(plan, log.parent, watcher.best))
    elif exit_code is None or exit_code == NonFiniteLossError.exit_code:
        # Prune diverged trials without reporting a value, so that the sampler avoids their parameters.
        if exit_code is not None:
            trial.set_user_attr(DIVERGED, True)
        study.optuna_study.tell(trial, state=TrialState.PRUNED)
    elif plan.sweep.on_error == "next" and 0 < exit_code < 128:
        error = describe_end(log, exit_code)
        logger.warning("trial %d failed: the run %s", trial.number, error)
        trial.set_user_attr(ERROR, error)
        study.optuna_study.tell(trial, state=TrialState.FAIL)
    else:
        raise SweepStoppedError(
            f"trial {trial.number} failed: the run {describe_end(log, exit_code)}\n"
            "→ fix the cause, then run the sweep again to resume this trial. To skip it, run `kedro sweep --give-up "
            f"{trial.number}`. To skip all failed trials, set sweep.on_error to next"
        )


def _value_of(plan: SweepPlan, folder: Path, best: float | None) -> float:
    """Return the value of `sweep.metric` for a complete trial."""
    source, _, name = plan.sweep.metric.partition("/")
    if source == "val" and best is not None:
        return best
    metrics = json.loads(metrics_path_of(folder).read_text(encoding="utf-8"))
    if name not in metrics:
        known = ", ".join(sorted(metrics))
        raise ParameterError(
            f"sweep.metric {plan.sweep.metric}: the evaluation has no metric {name}; known metrics: {known}"
        )
    return float(metrics[name])


def _delete_checkpoints(study: Study, rows: list[TrialRow]) -> None:
    """Delete the checkpoint sets of all finished trials except the best trial."""
    for row in rows:
        if not row.is_best and row.state in ("complete", "pruned", "diverged"):
            shutil.rmtree(checkpoints_dir(training_dir_of(study.trial_folder(row.number))), ignore_errors=True)


def _register_best(plan: SweepPlan, study: Study, parent: TrackedRun) -> None:
    """Register the best trial's model, unless it is already registered or another sweep is still running a trial."""
    rows = study.rows()
    best = next((row for row in rows if row.is_best), None)
    if best is None or any(row.state in ("running", "elsewhere") for row in rows):
        return
    if study.optuna_study.user_attrs.get(_REGISTERED) == str(best.number):
        return
    folder = study.trial_folder(best.number)
    run_file = plan.write_trial_file(folder / "register.yml", best.params, "model_registration")
    name = f"trial {best.number} registered"
    environment = environment_of_trial(parent, plan.sweep.study, name, best.number, best.params)
    log = folder / "register.log"
    if exit_code := run_kedro(run_file, log, environment, plan.project_path):
        raise SweepStoppedError(
            f"the model of trial {best.number} was not registered: the run {describe_end(log, exit_code)}"
        )
    study.optuna_study.set_user_attr(_REGISTERED, str(best.number))
