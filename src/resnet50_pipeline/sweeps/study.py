"""Manages the trials of a study and their folders, and ensures that no trial is run by two processes.

A process claims a trial by locking a file in its folder. The kernel releases the lock when the process ends, even if
the process is killed. A trial that is RUNNING in Optuna but unlocked was therefore stopped or killed, and the next
sweep resumes it.

Optuna's heartbeat does not help: it works only inside `Study.optimize`, it needs a grace period to detect a killed
process, and its retry callback creates a new trial instead of resuming the existing one.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.processes.locks import claiming, find_holder, holding
from resnet50_pipeline.sweeps.space import to_distributions
from resnet50_pipeline.text import pluralize

# Names of attributes that the sweep stores in Optuna's study or trials.
DIVERGED, ERROR = "diverged", "error"
_METRIC = "metric"


@dataclass(frozen=True)
class TrialRow:
    """The state of a trial.

    Attributes:
        number: Optuna's trial number.
        state: complete, pruned, diverged (the loss was not finite), failed, running, stopped (the next sweep resumes
            the trial) or waiting (the next sweep runs the trial).
        value: final value of the metric. For an incomplete trial, the value of the last evaluation, or None before the
            first evaluation.
        epochs: number of the last evaluated epoch.
        seconds: duration of the trial since it was last started.
        params: values of the parameters, keyed by path.
        detail: error message, or the process that runs the trial.
        rank: 1 for the best complete trial, 2 for the next, and so on. None for a trial that is not complete.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    seconds: float
    params: dict[str, Any]
    detail: str = ""
    rank: int | None = None


def find_best(rows: Sequence[TrialRow]) -> TrialRow | None:
    """Return the best complete trial, or None if no trial is complete."""
    return next((row for row in rows if row.rank == 1), None)


def summarize(rows: Sequence[TrialRow], parameters: SweepParameters) -> str:
    """Return the best value and the number of trials: `val/top1 0.9123 in trial 0 (2 of 3 trials: 2 complete)`."""
    states, best = [row.state for row in rows], find_best(rows)
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none yet"
    text = f"{len(rows)} of {pluralize(parameters.trials, 'trial')}: {counts}"
    return text if best is None else f"{parameters.metric} {best.value:.4f} in trial {best.number} ({text})"


class Study:
    """A study in Optuna's database, and its folder. Both are created if they do not exist.

    Raises:
        ParameterError: if the database cannot be opened, or if the study has a different metric or direction.
    """

    def __init__(self, parameters: SweepParameters) -> None:
        self.parameters = parameters
        self.folder = parameters.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._storage = _open_storage(parameters)
        self.optuna_study = optuna.create_study(
            study_name=parameters.study,
            storage=self._storage,
            direction=parameters.direction,
            pruner=_make_pruner(parameters),
            load_if_exists=True,
        )
        metric = self.optuna_study.user_attrs.get(_METRIC, parameters.metric)
        direction = self.optuna_study.direction.name.lower()
        if (metric, direction) != (parameters.metric, parameters.direction):
            raise ParameterError(
                f"sweep.study {parameters.study}: its trials {direction} {metric}, so they are not comparable with "
                f"trials that {parameters.direction} {parameters.metric} → set a different name in sweep.study, or "
                "restore sweep.metric and sweep.direction"
            )
        self.optuna_study.set_user_attr(_METRIC, metric)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other sweeps on this machine from using the study for the duration of the block."""
        lock = self.folder / ".study.lock"
        lock.touch()
        with holding(lock, wait=True):
            yield

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[optuna.Trial | None]:
        """Claim a stopped or new trial for the duration of the block.

        Yields None if the study already has enough trials. The values of trial n depend only on the seed, n and the
        earlier trials, no matter how often the sweep was stopped and restarted.

        Raises:
            ParameterError: if Optuna cannot combine the search space with that of earlier trials.
        """
        with contextlib.ExitStack() as claim:
            with self.alone():
                trial = self._choose_trial()
                if trial is not None:
                    lock = self._lock_path(trial.number)
                    lock.parent.mkdir(exist_ok=True)
                    claim.enter_context(claiming(lock))
            yield trial

    def rows(self) -> list[TrialRow]:
        """Return the state of all trials, sorted by number."""
        trials = self.optuna_study.trials
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        # Among equally good trials, the first is the best. Optuna's `best_trial` could be any of them.
        complete.sort(key=lambda trial: trial.value or 0.0, reverse=self.parameters.direction == "maximize")
        ranks = {trial.number: rank for rank, trial in enumerate(complete, start=1)}
        return [self._row(trial, ranks.get(trial.number)) for trial in trials]

    def trial_folder(self, number: int) -> Path:
        """Return a trial's folder."""
        return self.folder / f"trial-{number:04d}"

    def _choose_trial(self) -> optuna.Trial | None:
        rows = self.rows()
        unfinished = next((row for row in rows if row.state in ("stopped", "waiting")), None)
        if unfinished is None and len(rows) >= self.parameters.trials:
            return None
        number = len(rows) if unfinished is None else unfinished.number
        if unfinished is not None and unfinished.state == "stopped":
            # `ask` resumes waiting trials first, and keeps the values that they already have.
            self._storage.set_trial_state_values(self.optuna_study.trials[number]._trial_id, TrialState.WAITING)
        self.optuna_study.sampler = make_sampler(self.parameters, number)
        try:
            return self.optuna_study.ask(to_distributions(self.parameters.space))
        except ValueError as error:
            raise ParameterError(
                f"sweep.space does not fit the earlier trials of study {self.parameters.study}: {error} → set a "
                "different name in sweep.study, or restore the space"
            ) from error

    def _lock_path(self, number: int) -> Path:
        return self.trial_folder(number) / ".sweep.lock"

    def _row(self, trial: FrozenTrial, rank: int | None) -> TrialRow:
        state, detail = self._describe_state(trial)
        epochs, end = trial.last_step or 0, trial.datetime_complete or datetime.now()
        value = trial.value if trial.value is not None else trial.intermediate_values.get(epochs)
        seconds = (end - (trial.datetime_start or end)).total_seconds()
        return TrialRow(trial.number, state, value, epochs, seconds, trial.params, detail, rank)

    def _describe_state(self, trial: FrozenTrial) -> tuple[str, str]:
        if trial.state == TrialState.RUNNING:
            # Other machines may share the database, but not the folders.
            if self.parameters.storage is not None and not self.trial_folder(trial.number).is_dir():
                return "running", "on another machine"
            holder = find_holder(self._lock_path(trial.number))
            return ("stopped", "") if holder is None else ("running", f"process {holder}")
        if trial.state == TrialState.FAIL:
            return "failed", str(trial.user_attrs.get(ERROR, ""))
        return ("diverged" if DIVERGED in trial.user_attrs else trial.state.name.lower()), ""


def make_sampler(parameters: SweepParameters, number: int) -> BaseSampler:
    """Return the sampler of trial `number`.

    Each trial has its own seed. With a shared seed, a resumed sweep would sample the same values again.
    """
    seed, sampler = zlib.crc32(f"{parameters.seed} {number}".encode()), parameters.sampler
    if sampler.name == "random":
        return RandomSampler(seed=seed)
    # constant_liar: parallel trials get different values
    return TPESampler(seed=seed, constant_liar=True, n_startup_trials=sampler.n_startup_trials)


def _make_pruner(parameters: SweepParameters) -> BasePruner:
    pruner = parameters.pruner
    if pruner.name == "median":
        return MedianPruner(pruner.n_startup_trials, pruner.n_warmup_steps)
    if pruner.name == "successive_halving":
        return SuccessiveHalvingPruner(min_resource=pruner.n_warmup_steps + 1, reduction_factor=4)
    return NopPruner()


def _open_storage(parameters: SweepParameters) -> RDBStorage:
    """Open Optuna's database, and create it if it does not exist.

    The default is a SQLite file in the study's folder, which survives SIGKILL: the kernel releases the locks of the
    killed process, and SQLite rolls back unfinished transactions.
    """
    path = parameters.folder / "study.db"
    try:
        return RDBStorage(parameters.storage or f"sqlite:///{path.resolve()}?timeout=60")
    except Exception as error:  # errors from SQLAlchemy, the driver and Optuna have no common base class
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ParameterError(
            f"{'sweep.storage' if parameters.storage else path}: Optuna cannot open its database "
            f"({type(error).__name__}: {cause}) → set sweep.storage to a URL that works, such as "
            f"postgresql+psycopg2://user@host/optuna, or to null for a SQLite file"
        ) from error
