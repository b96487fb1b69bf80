"""Studies: one trial a claim, whoever is killed, and the same values however often a sweep is started."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from resnet50_pipeline.exceptions import OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.study import Study, study_exists

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


def run_trials(parameters: SweepParameters, count: int) -> list[dict]:
    """Run some trials of a new `Study`, with a value that depends on what was chosen; return the choices."""
    study, chosen = Study(parameters), []
    for _ in range(count):
        with study.next_trial() as trial:
            chosen.append(trial.params)
            trial.complete(1 - abs(trial.params[RATE] - 0.1))
    return chosen


def test_values_do_not_depend_on_how_often_the_sweep_was_started(tmp_path):
    """Six trials at once, and six in three sweeps: the same values, and no value twice."""
    whole = run_trials(parameters_of(tmp_path / "whole"), 6)
    parts = parameters_of(tmp_path / "parts")
    assert run_trials(parts, 1) + run_trials(parts, 3) + run_trials(parts, 2) == whole
    assert len({params[RATE] for params in whole}) == 6
    with Study(parts).next_trial() as trial:
        assert trial is None, "the number of trials is the total"


def _hold(parameters: SweepParameters, is_held) -> None:
    with Study(parameters).next_trial() as trial:
        trial.report(1, 0.5)
        is_held.set()
        signal.pause()


def test_the_trial_of_a_killed_process_is_gone_on_with(tmp_path):
    """SIGKILL: the next sweep has the same trial, with what it had reported, and there is one of it."""
    parameters = parameters_of(tmp_path)
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    process = context.Process(target=_hold, args=(parameters, is_held))
    process.start()
    assert is_held.wait(60)
    (row,) = Study(parameters).rows()
    assert (row.state, row.detail) == ("running", f"process {process.pid}")
    with Study(parameters).next_trial() as other:
        assert other.number == 1, "what another process runs is its own"
        other.complete(0.4)
    with pytest.raises(OutputDirectoryInUseError, match=str(process.pid)):
        Study(parameters).give_up(0)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Study(parameters).rows()[0].state == "stopped"
    study = Study(parameters)
    with study.next_trial() as trial:
        assert (trial.number, trial.goes_on) == (0, True)
        assert trial.params == row.params
        assert not trial.report(1, 0.9), "an epoch that is evaluated again counts once"
        trial.complete(0.7)
    assert [(row.number, row.state, row.value) for row in study.rows()] == [(0, "complete", 0.7), (1, "complete", 0.4)]
    assert study.frozen(0).intermediate_values == {1: 0.5}
    assert study.best_number() == 0


def test_a_trial_below_the_median_is_to_be_given_up(tmp_path):
    """The pruner sees what was reported; a trial that diverged is pruned and says so."""
    study = Study(parameters_of(tmp_path))
    with study.next_trial() as trial:
        trial.report(1, 0.8)
        trial.complete(0.9)
    with study.next_trial() as trial:
        assert trial.report(1, 0.1)
        trial.prune()
    with study.next_trial() as trial:
        trial.prune(has_diverged=True)
    assert [(row.state, row.value) for row in study.rows()] == [
        ("complete", 0.9),
        ("pruned", 0.1),
        ("diverged", None),
    ]


def test_a_trial_that_is_given_up_is_not_counted(tmp_path):
    """Another one takes its place; one that has ended cannot be given up."""
    study = Study(parameters_of(tmp_path, trials=1))
    with study.next_trial() as trial:
        number = trial.number
    study.give_up(number)
    with study.next_trial() as trial:
        assert trial.number == number + 1
        trial.complete(0.5)
    assert [row.state for row in study.rows()] == ["given up", "complete"]
    with pytest.raises(ParameterError, match="trial 1 of study s has ended"):
        study.give_up(1)


def test_other_values_are_another_study(tmp_path):
    """A space, metric or direction that differs is refused, value by value; more trials are not."""
    Study(parameters_of(tmp_path))
    Study(parameters_of(tmp_path, trials=60))
    with pytest.raises(ParameterError, match=r'direction: "maximize" there, "minimize" here') as refused:
        Study(parameters_of(tmp_path, metric="val/loss", direction="minimize", space={RATE: {"low": 0.1, "high": 1}}))
    assert "space.training.seed" in str(refused.value)
    assert "name another one (sweep.study)" in str(refused.value)


def test_importances_need_trials(tmp_path):
    """None of one trial; of many, shares of the parameters that come to one."""
    parameters = parameters_of(tmp_path, trials=12)
    run_trials(parameters, 1)
    assert Study(parameters).importances() == {}
    run_trials(parameters, 11)
    shares = Study(parameters).importances()
    assert set(shares) == {RATE, "training.seed"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[RATE] > shares["training.seed"]


def test_a_database_that_is_none_is_refused(tmp_path):
    """An URL that leads nowhere is one clear error; asking whether a study is there makes none."""
    with pytest.raises(ParameterError, match=r"sweep\.storage: Optuna cannot use it"):
        Study(parameters_of(tmp_path, storage="nonsense://host/optuna"))
    assert not study_exists(parameters_of(tmp_path))
    assert list(tmp_path.glob("*/*")) == []
