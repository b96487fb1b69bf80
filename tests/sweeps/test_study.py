"""Tests of studies: claims on trials, resuming after a kill, and reproducible values."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from resnet50_pipeline.events import EvalEnd, EventWriter
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.report import draw_figures, write_report
from resnet50_pipeline.sweeps.study import DIVERGED, Study, find_best
from resnet50_pipeline.sweeps.sweep import TrialWatcher

RATE = "training.lr.learning_rate"


def parameters_of(folder, **changes: object) -> SweepParameters:
    values = {
        "study": "s",
        "output_dir": folder,
        "trials": 6,
        "seed": 3,
        "space": {RATE: {"low": 0.01, "high": 1, "log": True}, "training.seed": {"choices": [1, 2, 3]}},
        "sampler": {"name": "tpe", "n_startup_trials": 2},
        "pruner": {"name": "median", "n_startup_trials": 1},
    }
    return SweepParameters.model_validate({**values, **changes})


def complete(study: Study, trial, value: float) -> None:
    study.optuna_study.tell(trial, value)


def run_trials(parameters: SweepParameters, count: int) -> list[dict]:
    """Run some trials of a new `Study`, with a value that depends on the chosen one, and return the chosen values."""
    study, chosen = Study(parameters), []
    for _ in range(count):
        with study.next_trial() as trial:
            chosen.append(trial.params)
            complete(study, trial, 1 - abs(trial.params[RATE] - 0.1))
    return chosen


def test_values_do_not_depend_on_the_number_of_sweep_starts(tmp_path):
    """Six trials in one sweep get the same six different values as six trials in three sweeps."""
    whole = run_trials(parameters_of(tmp_path / "whole"), 6)
    parts = parameters_of(tmp_path / "parts")
    assert run_trials(parts, 1) + run_trials(parts, 3) + run_trials(parts, 2) == whole
    assert len({params[RATE] for params in whole}) == 6
    with Study(parts).next_trial() as trial:
        assert trial is None, "the number of trials is the total of all sweeps"


def _hold(parameters: SweepParameters, is_held) -> None:
    with Study(parameters).next_trial() as trial:
        trial.report(0.5, 1)
        is_held.set()
        signal.pause()


def test_trial_of_a_killed_process_is_resumed(tmp_path):
    """After SIGKILL, the next sweep gets the same trial with the values that it had reported."""
    parameters = parameters_of(tmp_path)
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    process = context.Process(target=_hold, args=(parameters, is_held))
    process.start()
    assert is_held.wait(60)
    (row,) = Study(parameters).rows()
    assert (row.state, row.detail) == ("running", f"process {process.pid}")
    study = Study(parameters)
    with study.next_trial() as other:
        assert other.number == 1, "a trial belongs to one process"
        complete(study, other, 0.4)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Study(parameters).rows()[0].state == "stopped"
    study = Study(parameters)
    with study.next_trial() as trial:
        assert (trial.number, trial.params) == (0, row.params)
        complete(study, trial, 0.7)
    assert [(row.number, row.state, row.value) for row in study.rows()] == [(0, "complete", 0.7), (1, "complete", 0.4)]
    assert study.optuna_study.trials[0].intermediate_values == {1: 0.5}
    assert find_best(study.rows()).number == 0


def watch(parameters: SweepParameters, trial, events: Path, epochs: int = 3) -> TrialWatcher:
    return TrialWatcher(parameters, trial, events, epochs)


def evaluate(events: Path, epoch: int, top1: float) -> None:
    """Append the event of an evaluation."""
    values = {"images": 3, "loss": 1.0, "top5": 1.0, "images_per_second": 9, "is_best": True}
    EventWriter(events).write(EvalEnd(epoch=epoch, step=epoch, top1=top1, **values))


def test_resumed_trial_reports_each_epoch_once(tmp_path):
    """When a resumed run repeats an evaluation, Optuna keeps the first value, and the trial the best one."""
    parameters, events = parameters_of(tmp_path), tmp_path / "events.jsonl"
    study = Study(parameters)
    with study.next_trial() as trial:
        evaluate(events, 1, 0.5)
        assert watch(parameters, trial, events).should_continue()
    with study.next_trial() as trial:
        watcher = watch(parameters, trial, events)
        evaluate(events, 1, 0.9)
        assert watcher.should_continue()
        assert watcher.values == {1: 0.9}
    assert study.optuna_study.trials[0].intermediate_values == {1: 0.5}


def test_trial_below_the_median_is_pruned_before_its_last_epoch(tmp_path):
    """The pruner uses the evaluations, and never prunes a trial after its last epoch."""
    parameters = parameters_of(tmp_path)
    study = Study(parameters)
    with study.next_trial() as trial:
        trial.report(0.8, 1)
        complete(study, trial, 0.9)
    with study.next_trial() as trial:
        evaluate(tmp_path / "events.jsonl", 1, 0.1)
        assert watch(parameters, trial, tmp_path / "events.jsonl", epochs=1).should_continue()
        assert not watch(parameters, trial, tmp_path / "events.jsonl").should_continue()
        study.optuna_study.tell(trial, state=TrialState.PRUNED)
    with study.next_trial() as trial:
        trial.set_user_attr(DIVERGED, True)
        study.optuna_study.tell(trial, state=TrialState.PRUNED)
    states = [(row.state, row.value) for row in study.rows()]
    assert states == [("complete", 0.9), ("pruned", 0.1), ("diverged", None)]


def test_stopped_trial_can_be_ended_with_optuna(tmp_path):
    """After `optuna tell`, the next sweep starts another trial instead of resuming the stopped one."""
    parameters = parameters_of(tmp_path, trials=2)
    study = Study(parameters)
    with study.next_trial():
        pass
    assert [row.state for row in study.rows()] == ["stopped"]
    storage = f"sqlite:///{study.folder / 'study.db'}"
    tell = ["tell", "--study-name", "s", "--trial-number", "0", "--state", "fail"]
    subprocess.run([Path(sys.executable).with_name("optuna"), "--storage", storage, *tell], check=True)
    with study.next_trial() as trial:
        assert trial.number == 1
        complete(study, trial, 0.5)
    assert [row.state for row in study.rows()] == ["failed", "complete"]


def test_trial_killed_while_it_is_created_gets_the_missing_values(tmp_path):
    """Values that Optuna has already stored are kept."""
    study = Study(parameters_of(tmp_path))
    killed = study.optuna_study.ask()
    killed.suggest_float(RATE, 0.5, 0.5, log=True)
    with study.next_trial() as trial:
        assert trial.number == killed.number
        assert set(trial.params) == {RATE, "training.seed"}
        assert trial.params[RATE] == 0.5


def test_study_with_another_metric_is_rejected(tmp_path):
    """The error shows both metrics. The number of trials and the ranges may change."""
    Study(parameters_of(tmp_path))
    study = Study(parameters_of(tmp_path, trials=60, space={RATE: {"low": 0.1, "high": 1, "log": True}}))
    with study.next_trial() as trial:
        assert set(trial.params) == {RATE}
    with pytest.raises(ParameterError, match=r"sweep.study s: .*maximize val/top1,.*minimize val/loss"):
        Study(parameters_of(tmp_path, metric="val/loss", direction="minimize"))


def test_space_that_does_not_fit_earlier_trials_is_rejected(tmp_path):
    """Optuna can change the ends of a range, but not the choices."""
    with Study(parameters_of(tmp_path)).next_trial():
        pass
    space = {RATE: {"choices": [0.1, 0.2]}}
    with (
        pytest.raises(ParameterError, match=r"sweep.space .*study s: .*kind"),
        Study(parameters_of(tmp_path, space=space)).next_trial(),
    ):
        pass


def test_report_contains_the_plots_that_the_trials_allow(tmp_path):
    """Without a value, the page has no plots. The importance plot needs several distinct values."""
    space = {**parameters_of(tmp_path).space, "training.ema_decay": {"choices": [None, 0.9]}}
    parameters = parameters_of(tmp_path, trials=12, space=space)
    study = Study(parameters)
    with study.next_trial() as trial:
        assert {path.name for path in write_report(study)} == {"trials.csv", "index.html"}
        assert draw_figures(study) == []
        trial.report(0.5, 1)
        complete(study, trial, 0.5)
    without_importances = ["History", "Slices", "Parallel coordinates", "Evaluations"]
    assert [figure.title for figure in draw_figures(study)] == without_importances
    run_trials(parameters, 11)
    importances = "Importance of the parameters"
    assert [figure.title for figure in draw_figures(study)] == ["History", importances, *without_importances[1:]]
    write_report(study)
    table = pd.read_csv(study.folder / "report" / "trials.csv")
    assert table["trial"].tolist() == list(range(12))
    assert table[RATE].tolist() == pytest.approx([row.params[RATE] for row in study.rows()])


def test_wrong_database_url_is_rejected(tmp_path):
    """The error mentions the parameter."""
    with pytest.raises(ParameterError, match=r"sweep\.storage.*NoSuchModuleError"):
        Study(parameters_of(tmp_path, storage="nonsense://host/optuna"))
