"""Manages the trials of a study and their folders, and ensures that no trial is run by two processes.

A process claims a trial by locking a file in its folder. The kernel releases the lock when the process ends, even if
the process is killed. A trial that is RUNNING in Optuna but unlocked was therefore stopped or killed, and the next
sweep resumes it.

Optuna's heartbeat does not help: it works only inside `Study.optimize`, it needs a grace period to detect a killed
process, and its retry callback creates a new trial instead of resuming the existing one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from resnet50_pipeline.exceptions import OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.processes.locks import claiming, find_holder, holding
from resnet50_pipeline.sweeps.backend import make_pruner, make_sampler, open_storage
from resnet50_pipeline.sweeps.space import decode_params, to_distributions

# Names of attributes that the sweep stores in Optuna's study or trials.
DIVERGED, ERROR = "diverged", "error"
_DEFINITION, _HOST, _GIVEN_UP = "definition", "host", "given_up"


@dataclass(frozen=True)
class TrialRow:
    """The state of a trial.

    Attributes:
        number: Optuna's trial number.
        state: complete, pruned, diverged (the loss was not finite), failed, skipped (by `--give-up`), running, stopped
            (the next sweep resumes the trial) or elsewhere (the trial runs on another machine).
        value: final value of the metric. For an incomplete trial, the value of the last evaluation, or None before the
            first evaluation.
        epochs: number of the last evaluated epoch.
        seconds: duration of the trial so far.
        params: values of the parameters, keyed by path.
        detail: error message, or the process or machine that runs the trial.
        is_best: whether this is the best complete trial.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    seconds: float
    params: dict[str, Any]
    detail: str = ""
    is_best: bool = False


def count_states(rows: Sequence[TrialRow]) -> str:
    """Return the number of trials in each state: `10 complete, 2 pruned`."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none yet"


class Study:
    """A study in Optuna's database, and its folder. Both are created if they do not exist.

    Raises:
        ParameterError: if the database cannot be opened, or if the study has a different space, metric or direction.
    """

    def __init__(self, parameters: SweepParameters) -> None:
        self.parameters = parameters
        self.folder = parameters.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.optuna_study = optuna.create_study(
            study_name=parameters.study,
            storage=open_storage(parameters),
            direction=parameters.direction,
            pruner=make_pruner(parameters),
            load_if_exists=True,
        )
        self._require_same_definition()

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
        """
        with contextlib.ExitStack() as claim:
            with self.alone():
                trial = self._resume(claim) or self._create(claim)
            yield trial

    def give_up(self, number: int) -> None:
        """Mark a stopped trial as skipped. A new trial takes its place, because `sweep.trials` excludes skipped trials.

        Raises:
            ParameterError: if the trial does not exist or has ended.
            OutputDirectoryInUseError: if a sweep is running the trial.
        """
        running = {trial.number: trial for trial in self._trials(TrialState.RUNNING)}
        if number not in running:
            raise ParameterError(
                f"--give-up {number}: study {self.parameters.study} has no unfinished trial {number}; "
                f"unfinished trials: {', '.join(map(str, running)) or 'none'}"
            )
        with claiming(self._lock_path(number)) as holder:
            if holder is not None:
                raise OutputDirectoryInUseError(
                    f"{self.trial_folder(number)}: process {holder} is running trial {number} → stop that sweep first"
                )
            self._give_up(running[number])

    def rows(self) -> list[TrialRow]:
        """Return the state of all trials, sorted by number."""
        best = self.best_number()
        return [self._row(trial, is_best=trial.number == best) for trial in self.optuna_study.trials]

    def best_number(self) -> int | None:
        """Return the number of the best complete trial, or None if no trial is complete.

        Among equally good trials, this is the first. Optuna could return any of these trials.
        """
        sign = -1 if self.parameters.direction == "maximize" else 1
        complete = self._trials(TrialState.COMPLETE)
        return min(((sign * float(trial.value or 0.0), trial.number) for trial in complete), default=(0, None))[1]

    def trial_folder(self, number: int) -> Path:
        """Return a trial's folder."""
        return self.folder / f"trial-{number:04d}"

    def _resume(self, claim: contextlib.ExitStack) -> optuna.Trial | None:
        for trial in self._trials(TrialState.RUNNING):
            if self._host_of(trial) != socket.gethostname():
                continue
            if claim.enter_context(claiming(self._lock_path(trial.number))) is not None:
                continue
            if set(trial.params) == set(self.parameters.ranges):
                return optuna.Trial(self.optuna_study, trial._trial_id)
            self._give_up(trial)  # killed before Optuna had chosen all values
        return None

    def _create(self, claim: contextlib.ExitStack) -> optuna.Trial | None:
        trials = self.optuna_study.trials
        if sum(_GIVEN_UP not in trial.user_attrs for trial in trials) >= self.parameters.trials:
            return None
        self.optuna_study.sampler = make_sampler(self.parameters, len(trials))
        trial = self.optuna_study.ask(to_distributions(self.parameters.ranges))
        trial.set_user_attr(_HOST, socket.gethostname())
        claim.enter_context(claiming(self._lock_path(trial.number)))
        return trial

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self.optuna_study.get_trials(deepcopy=False, states=(state,))

    def _lock_path(self, number: int) -> Path:
        """Return the path of a trial's lock file. Create the trial's folder if it does not exist."""
        folder = self.trial_folder(number)
        folder.mkdir(exist_ok=True)
        return folder / ".sweep.lock"

    def _give_up(self, trial: FrozenTrial) -> None:
        optuna.Trial(self.optuna_study, trial._trial_id).set_user_attr(_GIVEN_UP, True)
        self.optuna_study.tell(trial.number, state=TrialState.FAIL)

    def _host_of(self, trial: FrozenTrial) -> str:
        """Return the host name of the machine that runs a trial.

        A process may be killed before it records its host name. If the database is a local file, the trial must have
        run on this machine, so this machine's host name is returned.
        """
        unknown = socket.gethostname() if self.parameters.storage is None else "an unknown machine"
        return str(trial.user_attrs.get(_HOST, unknown))

    def _row(self, trial: FrozenTrial, *, is_best: bool) -> TrialRow:
        state, detail = self._describe_state(trial)
        epochs = max(trial.intermediate_values, default=0)
        value = trial.value if trial.value is not None else trial.intermediate_values.get(epochs)
        end = trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()
        start = trial.datetime_start.timestamp() if trial.datetime_start else end
        params = decode_params(trial.params)
        return TrialRow(trial.number, state, value, epochs, end - start, params, detail, is_best)

    def _describe_state(self, trial: FrozenTrial) -> tuple[str, str]:
        attributes = trial.user_attrs
        if trial.state == TrialState.RUNNING:
            if (host := self._host_of(trial)) != socket.gethostname():
                return "elsewhere", f"on {host}"
            holder = find_holder(self._lock_path(trial.number))
            return ("stopped", "") if holder is None else ("running", f"process {holder}")
        if trial.state == TrialState.FAIL:
            return ("skipped" if _GIVEN_UP in attributes else "failed"), str(attributes.get(ERROR, ""))
        return ("diverged" if DIVERGED in attributes else trial.state.name.lower()), ""

    def _require_same_definition(self) -> None:
        """Raise ParameterError if the study's trials have a different space, metric or direction."""
        space = {f"space.{path}": values.model_dump(mode="json") for path, values in self.parameters.ranges.items()}
        here = {"metric": self.parameters.metric, "direction": self.parameters.direction, **space}
        if _DEFINITION not in self.optuna_study.user_attrs:
            self.optuna_study.set_user_attr(_DEFINITION, json.dumps(here, sort_keys=True))
        there = json.loads(self.optuna_study.user_attrs[_DEFINITION])
        differences = [
            f"  {key}: {json.dumps(there.get(key))} in the study, {json.dumps(here.get(key))} in the parameters"
            for key in sorted({*there, *here})
            if there.get(key) != here.get(key)
        ]
        if differences:
            problem = f"sweep.study {self.parameters.study}: its trials are not comparable with new trials:"
            solution = "→ set a different name in sweep.study, or restore the values"
            raise ParameterError("\n".join([problem, *differences, solution]))


def study_exists(parameters: SweepParameters) -> bool:
    """Return whether the study exists, without creating it."""
    if parameters.storage is None:
        return (parameters.folder / "study.db").is_file()
    return parameters.study in optuna.get_all_study_names(open_storage(parameters))
