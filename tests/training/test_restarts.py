"""Ranks that are killed, crash or hang are restarted from the newest checkpoint set if a parameter allows it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from placed import PlacedDataset, PlacedTraining
from resnet50_pipeline.events import EventWriter, Finished, Restarted, Started, read_events
from resnet50_pipeline.exceptions import NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas import train as train_module
from resnet50_pipeline.paddleclas.history import training_summary
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.training_dir import checkpoint_path, checkpoint_paths, events_path, log_dir
from short_training import assert_same_end, train

pytestmark = pytest.mark.slow


def with_restarts(training: PlacedTraining, output_dir: Path, most: int, **launch: object) -> PlacedTraining:
    values = training.launch.model_dump() | {"max_restarts": most} | launch
    return training.model_copy(update={"output_dir": output_dir, "launch": LaunchParameters.model_validate(values)})


def rank_process(output_dir: Path, rank: int) -> psutil.Process | None:
    for process in psutil.process_iter():
        try:
            is_of_run = any(argument.startswith(str(output_dir)) for argument in process.cmdline())
            if is_of_run and process.environ().get("PADDLE_TRAINER_ID") == str(rank):
                return process
        except psutil.Error:
            continue
    return None


def signal_after_sets(output_dir: Path, sets: list[int], number: int) -> threading.Thread:
    """Send a signal to rank 1 each time the number of checkpoint sets reaches the next value in `sets`."""

    def send() -> None:
        for count in sets:
            while len(checkpoint_paths(output_dir)) < count or (process := rank_process(output_dir, 1)) is None:
                time.sleep(0.05)
            os.kill(process.pid, number)
            while psutil.pid_exists(process.pid):
                time.sleep(0.05)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def whole(training_parameters: Callable[..., PlacedTraining], dataset_parameters: PlacedDataset, tmp_path: Path):
    """A finished run on two ranks."""
    training = training_parameters(output_dir=tmp_path / "whole", ranks=2, epochs=6, keep_checkpoints=99)
    train(training, dataset_parameters)
    return training


def test_killed_ranks_continue_from_the_newest_set(whole: PlacedTraining, dataset_parameters, tmp_path: Path):
    """A run whose rank is killed twice ends like an undisturbed run, and records both restarts."""
    training = with_restarts(whole, tmp_path / "training", 2)
    signal_after_sets(training.output_dir, [1, 3], signal.SIGKILL)
    train(training, dataset_parameters)
    assert_same_end(whole.output_dir, training.output_dir)
    events = read_events(events_path(training.output_dir))
    restarts = [event for event in events if isinstance(event, Restarted)]
    assert [event.restart for event in restarts] == [1, 2]
    assert all("rank 1" in event.reason and "SIGKILL" in event.reason for event in restarts)
    assert [event.first_step > 0 for event in events if isinstance(event, Started)] == [False, True, True]
    assert training_summary(events_path(training.output_dir), "ResNet18", "")["restarts"] == 2


@pytest.mark.exhaustive
def test_hung_ranks_are_restarted(whole: PlacedTraining, dataset_parameters, tmp_path: Path):
    """A rank that stops making progress is killed after the timeout, and the run continues."""
    training = with_restarts(whole, tmp_path / "training", 1, hang_timeout_seconds=20)
    signal_after_sets(training.output_dir, [2], signal.SIGSTOP)
    train(training, dataset_parameters)
    assert_same_end(whole.output_dir, training.output_dir)


def test_failure_before_the_first_event_is_not_success(training_parameters, dataset_parameters, monkeypatch):
    """If a run that stopped early continues, and its ranks fail at once, the old `finished` event does not count."""
    training = training_parameters(resume=True)
    checkpoint_path(training.output_dir, 1).mkdir(parents=True)
    writer = EventWriter(events_path(training.output_dir))
    finished = Finished(epochs=1, step=1, patience=1, best_epoch=1, best_top1=1, seconds=1, images_per_second=1)
    writer.write(finished)

    def fail(*_: object, **__: object) -> None:
        raise RankFailedError("rank 0 ended with exit code 1")

    monkeypatch.setattr(train_module, "run_ranks", fail)
    with pytest.raises(RankFailedError):
        train(training, dataset_parameters)

    def finish_and_fail(*_: object, **__: object) -> None:
        writer.write(finished.model_copy(update={"epochs": 2}))
        fail()

    monkeypatch.setattr(train_module, "run_ranks", finish_and_fail)
    train(training, dataset_parameters)


def test_a_later_command_keeps_the_logs_of_earlier_restarts(tmp_path: Path):
    """Each command counts its restarts from 1, but never replaces the logs that another command has kept."""
    for command in ("first", "second"):
        (log_dir(tmp_path) / "workerlog.0").parent.mkdir(exist_ok=True)
        (log_dir(tmp_path) / "workerlog.0").write_text(command)
        train_module._record_restart(tmp_path, 1, RankFailedError("rank 0 ended"))
    kept = [(log_dir(tmp_path) / f"restart-{number}" / "workerlog.0").read_text() for number in (1, 2)]
    assert kept == ["first", "second"]


def test_restarts_are_limited(training_parameters, dataset_parameters, tmp_path: Path):
    """After the last restart, the next failure ends the run. An error of a rank is never followed by a restart."""
    training = with_restarts(training_parameters(ranks=2, epochs=200), tmp_path / "training", 1)
    signal_after_sets(training.output_dir, [1, 3], signal.SIGKILL)
    with pytest.raises(RankFailedError):
        train(training, dataset_parameters)
    events = read_events(events_path(training.output_dir))
    assert [event.restart for event in events if isinstance(event, Restarted)] == [1]

    diverging = with_restarts(
        training_parameters(ranks=1, epochs=20, lr={"name": "Cosine", "learning_rate": 1e30}), tmp_path / "nan", 3
    )
    with pytest.raises(NonFiniteLossError):
        train(diverging, dataset_parameters)
    assert not [event for event in read_events(events_path(diverging.output_dir)) if isinstance(event, Restarted)]
