"""Runs the trials of a study, each as a `kedro run`, and prunes them based on their events."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from resnet50_pipeline.child_runs.kedro_run import describe_end, run_kedro, wait_for_orphan
from resnet50_pipeline.child_runs.parent_run import child_environment
from resnet50_pipeline.child_runs.run_file import merge, metrics_path_of, training_dir_of, write_run_file
from resnet50_pipeline.events import EvalEnd, parse_event
from resnet50_pipeline.exceptions import NonFiniteLossError, ParameterError, SweepStoppedError
from resnet50_pipeline.parameters import SweepParameters, TrackingParameters, TrainingParameters
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.sweeps.parent_run import describe_sweep, record_trial
from resnet50_pipeline.sweeps.space import nest
from resnet50_pipeline.sweeps.study import DIVERGED, ERROR, Study, TrialRow, find_best, summarize
from resnet50_pipeline.tailing import Tail
from resnet50_pipeline.tracking.delivery.operations import EndState
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run
from resnet50_pipeline.training_dir import RUN_DIR, checkpoints_dir, events_path

logger = logging.getLogger(__name__)

# Attributes of Optuna's study.
_SESSION, _DATA_DIGEST, _REGISTERED = "mlflow_session", "data_digest", "registered_trial"


@dataclass(frozen=True)
class SweepPlan:
    """The configuration of a sweep.

    Attributes:
        sweep: `params:sweep`.
        training: `params:training`, without a trial's values.
        tracking: `params:tracking`.
        recipe: name of the recipe, or None.
        validation_report: file in which the `data_validation` stage stores the data digest.
        project_path: folder of the project.
        environment: Kedro environment, or None for the default.
        conf_source: configuration folder, or None for `conf/`.
        given: the user's `--params` as a nested dict, without `params:sweep`.
        data_stages: stages to run before the first trial.
    """

    sweep: SweepParameters
    training: TrainingParameters
    tracking: TrackingParameters
    recipe: str | None
    validation_report: Path
    project_path: Path
    environment: str | None
    conf_source: str | None
    given: Mapping[str, Any]
    data_stages: tuple[str, ...]


def run_sweep(plan: SweepPlan, description: RunDescription) -> list[TrialRow]:
    """Run trials until the study has `sweep.trials` trials, and return the state of all trials.

    Raises:
        ParameterError: if the study has a different space, metric or data.
        SweepStoppedError: if a trial or the data stages failed.
        RunInterruptedError: if this process received a signal. The running trial saves a checkpoint set first.
    """
    study = Study(plan.sweep)
    session = study.optuna_study.user_attrs.get(_SESSION)
    if session is None:
        study.optuna_study.set_user_attr(_SESSION, description.session)
    else:
        description = replace(description, session=session, continues=session)
    parent = open_run(description, plan.tracking, plan.project_path)
    sweep = _Sweep(plan, study, parent)
    state: EndState = "KILLED"
    try:
        with study.alone():
            sweep.prepare_data()
        while sweep.run_next_trial():
            pass
        with study.alone():
            sweep.write_report()
            if plan.sweep.register_best:
                sweep.register_best()
        state = "FINISHED"
    except (SweepStoppedError, ParameterError) as error:
        parent.set_tags({"error": str(error)})
        state = "FAILED"
        raise
    finally:
        parent.end(state)
    return study.rows()


@dataclass(frozen=True)
class _Sweep:
    """A running sweep: its configuration, its study and its MLflow run."""

    plan: SweepPlan
    study: Study
    parent: TrackedRun

    def prepare_data(self) -> None:
        """Run the data stages unless an earlier sweep of this study has already run them."""
        if _DATA_DIGEST in self.study.optuna_study.user_attrs:
            return
        run_file = self.study.folder / "data.yml"
        logger.info("running the data stages; log: %s", _log_of(run_file))
        if exit_code := self._run("data", run_file, self.plan.data_stages):
            end = describe_end(_log_of(run_file), exit_code)
            raise SweepStoppedError(f"the data stages of the sweep failed: the run {end}")
        self.study.optuna_study.set_user_attr(_DATA_DIGEST, self._read_data_digest())

    def run_next_trial(self) -> bool:
        """Run the next trial until it ends. Return False if the study has enough trials."""
        plan, study = self.plan, self.study
        with study.next_trial() as trial:
            if trial is None:
                return False
            self._require_same_data()
            run_file = study.trial_folder(trial.number) / "run.yml"
            grace_seconds = plan.training.launch.stop_grace_seconds
            wait_for_orphan(run_file.parent, grace_seconds)
            shown = ", ".join(f"{path}={value}" for path, value in trial.params.items())
            logger.info("trial %d: %s; log: %s", trial.number, shown, _log_of(run_file))
            epochs = int(trial.params.get("training.epochs", plan.training.epochs))
            watcher = TrialWatcher(plan.sweep, trial, events_path(training_dir_of(run_file.parent)), epochs)
            exit_code = self._run(
                f"trial {trial.number}",
                run_file,
                ("training", "evaluation"),
                trial,
                should_continue=watcher.should_continue,
                grace_seconds=grace_seconds,
            )
            self._end_trial(watcher, run_file, exit_code)
        record_trial(self.parent, study, trial.number)
        rows = study.rows()
        row = rows[trial.number]
        logger.info("trial %d: %s, last epoch %d; %s", row.number, row.state, row.epochs, summarize(rows, plan.sweep))
        if plan.sweep.keep == "best":
            for row in rows:
                if row.state in ("complete", "pruned", "diverged") and row.rank != 1:
                    folder = study.trial_folder(row.number)
                    shutil.rmtree(checkpoints_dir(training_dir_of(folder)), ignore_errors=True)
        return True

    def write_report(self) -> None:
        """Write the sweep's table and page, and add them to MLflow."""
        from resnet50_pipeline.sweeps.report import write_report  # Plotly takes seconds to import

        written = write_report(self.study)
        for path in written:
            self.parent.log_artifact(path, "sweep")
        describe_sweep(self.parent, self.study, {path.name: f"sweep/{path.name}" for path in written})

    def register_best(self) -> None:
        """Register the best trial's model, unless it is already registered or another sweep still runs a trial."""
        rows, attributes = self.study.rows(), self.study.optuna_study.user_attrs
        best = find_best(rows)
        if best is None or any(row.state == "running" for row in rows):
            return
        if attributes.get(_REGISTERED) == str(best.number):
            return
        run_file = self.study.trial_folder(best.number) / "register.yml"
        if exit_code := self._run(f"trial {best.number} registered", run_file, ("model_registration",), best):
            end = describe_end(_log_of(run_file), exit_code)
            raise SweepStoppedError(f"the model of trial {best.number} was not registered: the run {end}")
        self.study.optuna_study.set_user_attr(_REGISTERED, str(best.number))

    def _run(
        self,
        name: str,
        run_file: Path,
        stages: Sequence[str],
        trial: optuna.Trial | TrialRow | None = None,
        *,
        should_continue: Callable[[], bool] = lambda: True,
        grace_seconds: float = 0.0,
    ) -> int | None:
        """Run stages as a child run, with the values of a trial. Return what `run_kedro` returns.

        A trial's results go to the folder of the run file.
        """
        plan, given, tags = self.plan, self.plan.given, {"sweep.study": self.plan.sweep.study}
        if trial is not None:
            own = {
                RUN_DIR: str(run_file.parent),
                # In a shared mirror, the runs would overwrite each other's sets.
                "training": {"resume": "auto", "checkpoint_mirror": None},
                "evaluation": {"output_dir": str(run_file.parent)},
            }
            given = merge(merge(given, nest(trial.params)), own)
            values = {f"sweep.{path}": str(value) for path, value in trial.params.items()}
            tags |= {"sweep.trial": str(trial.number), **values}
        write_run_file(run_file, stages, given, environment=plan.environment, conf_source=plan.conf_source)
        return run_kedro(
            run_file,
            _log_of(run_file),
            child_environment(self.parent, "sweep", f"sweep {plan.sweep.study}", name, tags),
            plan.project_path,
            should_continue=should_continue,
            grace_seconds=grace_seconds,
        )

    def _end_trial(self, watcher: TrialWatcher, run_file: Path, exit_code: int | None) -> None:
        """Record the end of a trial in the study.

        Raises:
            SweepStoppedError: if the trial failed and `sweep.on_error` is stop, or if the trial was ended by a signal
                from another process.
        """
        trial, tell, log = watcher.trial, self.study.optuna_study.tell, _log_of(run_file)
        if exit_code == 0:
            tell(trial, self._value_of(run_file.parent, watcher.values.values()))
        elif exit_code is None or exit_code == NonFiniteLossError.exit_code:
            # Prune diverged trials without reporting a value, so that the sampler avoids their parameters.
            if exit_code is not None:
                trial.set_user_attr(DIVERGED, True)
            tell(trial, state=TrialState.PRUNED)
        elif self.plan.sweep.on_error == "next" and 0 < exit_code < 128:
            error = describe_end(log, exit_code)
            logger.warning("trial %d failed: the run %s", trial.number, error)
            trial.set_user_attr(ERROR, error)
            tell(trial, state=TrialState.FAIL)
        else:
            raise SweepStoppedError(
                f"trial {trial.number} failed: the run {describe_end(log, exit_code)}\n"
                "→ fix the cause, then run the sweep again to resume this trial. To continue without it, run "
                f"`{other_command('sweep')} --params sweep.on_error=next`"
            )

    def _value_of(self, folder: Path, evaluations: Iterable[float]) -> float:
        """Return the value of `sweep.metric` for a complete trial."""
        metric, best = self.plan.sweep.metric, max if self.plan.sweep.direction == "maximize" else min
        source, _, name = metric.partition("/")
        if source == "val" and (values := list(evaluations)):
            return best(values)
        metrics = json.loads(metrics_path_of(folder).read_text(encoding="utf-8"))
        if name not in metrics:
            known = ", ".join(sorted(metrics))
            raise ParameterError(f"sweep.metric {metric}: the evaluation has no metric {name}; known metrics: {known}")
        return float(metrics[name])

    def _require_same_data(self) -> None:
        expected, found = self.study.optuna_study.user_attrs[_DATA_DIGEST], self._read_data_digest()
        if found != expected:
            raise ParameterError(
                f"{self.plan.validation_report}: the data digest is {found}, but study {self.plan.sweep.study} was "
                f"started with {expected}, so new trials would not be comparable → set a different name in "
                "sweep.study, or restore the data"
            )

    def _read_data_digest(self) -> str:
        try:
            return str(json.loads(self.plan.validation_report.read_text(encoding="utf-8"))["data_digest"])
        except FileNotFoundError:
            return "none (the file does not exist)"


class TrialWatcher:
    """Follows the events of a training run, and reports its evaluations to Optuna.

    Attributes:
        trial: Optuna's trial.
        values: latest value of each evaluated epoch, including epochs before a resume.
    """

    def __init__(self, sweep: SweepParameters, trial: optuna.Trial, events: Path, epochs: int) -> None:
        self.trial = trial
        self.values = dict(trial.study.trials[trial.number].intermediate_values)
        self._metric = sweep.pruning_metric
        self._epochs = epochs
        self._tail = Tail(events)

    def should_continue(self) -> bool:
        """Report the evaluations since the last call. Return False if the trial should be pruned."""
        is_pruned = False
        for event in map(parse_event, self._tail.read_lines()):
            if self._metric is None or not isinstance(event, EvalEnd):
                continue
            value = float(getattr(event, self._metric))
            if event.epoch not in self.values:  # a resumed run evaluates epochs again
                self.trial.report(value, event.epoch)
            self.values[event.epoch] = value
            logger.info("trial %d, epoch %d: val/%s %.4f", self.trial.number, event.epoch, self._metric, value)
            # Pruning after the last epoch saves no time.
            is_pruned |= event.epoch < self._epochs and self.trial.should_prune()
        return not is_pruned


def _log_of(run_file: Path) -> Path:
    return run_file.with_suffix(".log")
