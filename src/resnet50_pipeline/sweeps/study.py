"""A study: Optuna's trials, of which each belongs to one sweep at a time, and to nobody once that is gone.

A trial is claimed by a lock on its folder, which ends with the process that has it. One that runs for Optuna and that
nobody holds was left by a sweep that was killed or stopped: the next one goes on with it, as the same trial.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.exceptions import OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir, find_holder
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.choosing import describe_other_definition, make_pruner, make_sampler
from resnet50_pipeline.sweeps.database import database_of, open_storage
from resnet50_pipeline.sweeps.optional import import_optuna
from resnet50_pipeline.sweeps.space import decode_params, to_distributions

if TYPE_CHECKING:
    import optuna

_DEFINITION, _HOST, _ERROR = "definition", "host", "error"
_GIVEN_UP, _DIVERGED = "given_up", "diverged"
# From Optuna's trial to its host's name is a moment, in which a sweep of another machine may look.
_NAMELESS_SECONDS = 60.0


@dataclass(frozen=True)
class TrialRow:
    """What is known of a trial.

    Attributes:
        number: Optuna's.
        state: complete, pruned, diverged (its loss was not finite), failed, given up, running; stopped where its sweep
            is gone and the next one goes on with it; elsewhere where it runs on another machine.
        value: of the metric; of a trial that is not complete, that of its last evaluation.
        epochs: of the last evaluation.
        seconds: from its start to its end, or until now.
        params: what was chosen, by path.
        detail: the error, or who has it.
        is_best: whether no complete trial is better.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    seconds: float
    params: dict[str, Any]
    detail: str = ""
    is_best: bool = False


class ClaimedTrial:
    """A trial that this process runs."""

    def __init__(self, study: Study, trial: optuna.Trial, folder: Path, *, goes_on: bool) -> None:
        self._study = study
        self._trial = trial
        self.folder = folder
        self.goes_on = goes_on
        self.params = decode_params(trial.params, study.parameters.tried)
        self._reported = set(study.frozen(trial.number).intermediate_values)

    @property
    def number(self) -> int:
        """Optuna's number of it."""
        return self._trial.number

    def report(self, epoch: int, value: float) -> bool:
        """Say what an evaluation gave; return whether the trial had better be given up.

        An epoch that is evaluated again, after a kill, counts once.
        """
        if epoch not in self._reported:
            self._reported.add(epoch)
            self._trial.report(value, epoch)
        return bool(self._trial.should_prune())

    def complete(self, value: float) -> None:
        """End it with its value."""
        self._study.tell(self.number, "COMPLETE", value)

    def prune(self, *, has_diverged: bool = False) -> None:
        """End it as given up. To the sampler one that diverged is as bad as any."""
        if has_diverged:
            self._trial.set_user_attr(_DIVERGED, True)
        self._study.tell(self.number, "PRUNED")

    def fail(self, error: str) -> None:
        """End it as failed."""
        self._trial.set_user_attr(_ERROR, error)
        self._study.tell(self.number, "FAIL")


class Study:
    """A study in Optuna's database, and the folders of its trials."""

    def __init__(self, parameters: SweepParameters) -> None:
        self.parameters = parameters
        self._optuna = import_optuna()
        parameters.folder.mkdir(parents=True, exist_ok=True)
        self._storage = open_storage(parameters)
        self._study = self._load()

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return self.parameters.folder

    def get_note(self, key: str) -> str | None:
        """Return what a sweep of this study has noted, None where nothing."""
        value = self._study.user_attrs.get(key)
        return None if value is None else str(value)

    def set_note(self, key: str, value: str) -> None:
        """Note something for the sweeps to come."""
        self._study.set_user_attr(key, value)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other sweeps of this machine from choosing, or preparing data, at the same time."""
        with (self.folder / ".study.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[ClaimedTrial | None]:
        """Give the trial to go on with, or a new one, and hold it while the block runs; None where there are enough.

        What is chosen for trial n depends on the seed, on n and on the trials before it, and not on how often the
        sweep was started.
        """
        with contextlib.ExitStack() as claim:
            with self.alone():
                trial = self._take_over(claim) or self._ask(claim)
            yield trial

    def frozen(self, number: int) -> optuna.trial.FrozenTrial:
        """Return what Optuna has of a trial."""
        return self._trials()[number]

    def tell(self, number: int, state: str, value: float | None = None) -> None:
        """End a trial."""
        self._study.tell(number, value, state=self._optuna.trial.TrialState[state])

    def give_up(self, number: int) -> None:
        """End a trial that nobody runs any more as failed; another one takes its place.

        Raises:
            ParameterError: there is no such trial, or it has ended.
            OutputDirectoryInUseError: a sweep runs it.
        """
        running = {row.number: row for row in self.rows() if row.state in ("running", "stopped", "elsewhere")}
        if number not in running:
            which = f"; these have not: {', '.join(map(str, running))}" if running else ""
            raise ParameterError(f"trial {number} of study {self.parameters.study} has ended, or is none{which}")
        with claim_output_dir(self._claimed(number)):
            self._give_up(self._thawed(self.frozen(number)))

    def rows(self) -> list[TrialRow]:
        """Return all trials by number."""
        best = self.best_number()
        return [self._row(trial, is_best=trial.number == best) for trial in self._trials()]

    def best_number(self) -> int | None:
        """Return the number of the best complete trial, None where none is complete."""
        complete = self._trials("COMPLETE")
        if not complete:
            return None
        sign = -1 if self.parameters.direction == "maximize" else 1
        return int(min(complete, key=lambda trial: (sign * float(trial.value or 0.0), trial.number)).number)

    def importances(self) -> dict[str, float]:
        """Return the share that each parameter has in the differences of the values, 0..1; {} for too few trials.

        PED-ANOVA (Watanabe et al. 2023), which asks which parameters decide over being among the better ones.
        """
        if len({trial.value for trial in self._trials("COMPLETE")}) < 4:
            return {}
        importances = self._optuna.importance
        found = importances.get_param_importances(
            self._study, evaluator=importances.PedAnovaImportanceEvaluator(), params=list(self.parameters.tried)
        )
        return {str(path): float(share) for path, share in found.items()}

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    def _take_over(self, claim: contextlib.ExitStack) -> ClaimedTrial | None:
        for trial in self._trials("RUNNING"):
            if not self._may_be_here(trial):
                continue
            try:
                claim.enter_context(claim_output_dir(self._claimed(trial.number)))
            except OutputDirectoryInUseError:
                continue
            going_on = self._thawed(trial)
            if set(trial.params) == set(self.parameters.tried):
                going_on.set_user_attr(_HOST, socket.gethostname())
                return ClaimedTrial(self, going_on, self.trial_folder(trial.number), goes_on=True)
            # Killed before all values were chosen: there is nothing to go on with.
            self._give_up(going_on)
            claim.close()
        return None

    def _ask(self, claim: contextlib.ExitStack) -> ClaimedTrial | None:
        trials = self._trials()
        if sum(_GIVEN_UP not in trial.user_attrs for trial in trials) >= self.parameters.trials:
            return None
        self._study.sampler = make_sampler(self.parameters, len(trials))
        trial = self._study.ask(to_distributions(self.parameters.tried))
        trial.set_user_attr(_HOST, socket.gethostname())
        claim.enter_context(claim_output_dir(self._claimed(trial.number)))
        return ClaimedTrial(self, trial, self.trial_folder(trial.number), goes_on=False)

    def _claimed(self, number: int) -> Path:
        """Return what is claimed of a trial; its `kedro run` claims the folder itself."""
        folder = self.trial_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "sweep"

    def _trials(self, state: str | None = None) -> list[optuna.trial.FrozenTrial]:
        """Return all trials by number, or those in a state."""
        states = None if state is None else (self._optuna.trial.TrialState[state],)
        return list(self._study.get_trials(deepcopy=False, states=states))

    def _thawed(self, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
        """Return a trial that another process has begun as one that can be told of."""
        thawed: optuna.Trial = self._optuna.trial.Trial(self._study, trial._trial_id)
        return thawed

    def _give_up(self, trial: optuna.Trial) -> None:
        trial.set_user_attr(_GIVEN_UP, True)
        self.tell(trial.number, "FAIL")

    def _may_be_here(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Return whether a lock of this machine says whether somebody runs it."""
        host = trial.user_attrs.get(_HOST)
        if host is not None:
            return bool(host == socket.gethostname())
        started = trial.datetime_start
        is_old = started is None or time.time() - started.timestamp() > _NAMELESS_SECONDS
        return self.parameters.storage is None or is_old

    def _row(self, trial: optuna.trial.FrozenTrial, *, is_best: bool) -> TrialRow:
        state, detail = self._state_of(trial)
        epochs = max(trial.intermediate_values, default=0)
        value = trial.value if trial.value is not None else trial.intermediate_values.get(epochs)
        end = trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()
        start = trial.datetime_start.timestamp() if trial.datetime_start else end
        params = decode_params(trial.params, self.parameters.tried)
        return TrialRow(trial.number, state, value, epochs, end - start, params, detail, is_best)

    def _state_of(self, trial: optuna.trial.FrozenTrial) -> tuple[str, str]:
        name = trial.state.name.lower()
        if name == "running":
            if not self._may_be_here(trial):
                return "elsewhere", f"on {trial.user_attrs.get(_HOST)}"
            holder = find_holder(self.trial_folder(trial.number) / "sweep")
            return ("stopped", "") if holder is None else ("running", f"process {holder}")
        if name == "pruned":
            return ("diverged" if trial.user_attrs.get(_DIVERGED) else "pruned"), ""
        if name == "fail":
            given_up = trial.user_attrs.get(_GIVEN_UP)
            return ("given up" if given_up else "failed"), str(trial.user_attrs.get(_ERROR, ""))
        return name, ""

    def _load(self) -> optuna.Study:
        study: optuna.Study = self._optuna.create_study(
            study_name=self.parameters.study,
            storage=self._storage,
            direction=self.parameters.direction,
            sampler=make_sampler(self.parameters, 0),
            pruner=make_pruner(self.parameters),
            load_if_exists=True,
        )
        definition = json.dumps(self._definition(), sort_keys=True)
        known = study.user_attrs.get(_DEFINITION)
        if known is None:
            study.set_user_attr(_DEFINITION, definition)
        elif known != definition:
            raise ParameterError(
                describe_other_definition(self.parameters.study, json.loads(known), self._definition())
            )
        return study

    def _definition(self) -> dict[str, Any]:
        """Return what all trials of a study have in common, without which they could not be compared."""
        space = {f"space.{path}": values.model_dump(mode="json") for path, values in self.parameters.tried.items()}
        return {"metric": self.parameters.metric, "direction": self.parameters.direction, **space}


def study_exists(parameters: SweepParameters) -> bool:
    """Return whether there is such a study, without making one."""
    if parameters.storage is None:
        return database_of(parameters).is_file()
    return parameters.study in import_optuna().get_all_study_names(parameters.storage)
