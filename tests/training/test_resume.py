"""A run that was stopped and resumed ends like an uninterrupted run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from placed import PlacedDataset
from resnet50_pipeline.events import CheckpointSaved, Started, TrainStep, WarningRaised, read_events
from resnet50_pipeline.exceptions import CheckpointError, PipelineError
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, events_path
from short_training import assert_same_end, stop_after, train

pytestmark = pytest.mark.slow

Build = Callable[..., TrainingParameters]
STEPS = 3  # per epoch: 36 images, two ranks, batches of 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> TrainingParameters:
    """A finished training run of two epochs on two ranks, with a set for every step."""
    training = make_training_parameters(
        tmp_path_factory.mktemp("whole") / "training",
        ranks=2,
        print_batch_step=2,
        save_interval_steps=1,
        keep_checkpoints=99,
    )
    train(training, PlacedDataset(root=striped_dataset, class_num=3))
    return training


def copy_of(training: TrainingParameters, folder: Path, **changes: object) -> TrainingParameters:
    shutil.copytree(training.output_dir, folder)
    return training.model_copy(update={"output_dir": folder, "resume": True, **changes})


def test_every_step_has_a_set(whole: TrainingParameters):
    """With save_interval_steps: 1, each step has a set, and sets at the end of an epoch are named after the epoch."""
    names = [path.name for path in checkpoint_paths(whole.output_dir)]
    assert names == [
        "epoch-0000-step-0000000001",
        "epoch-0000-step-0000000002",
        "epoch-0001",
        "epoch-0001-step-0000000004",
        "epoch-0001-step-0000000005",
        "epoch-0002",
    ]
    saved = [event for event in read_events(events_path(whole.output_dir)) if isinstance(event, CheckpointSaved)]
    assert [Path(event.path).name for event in saved] == names
    assert all(0 < event.stall_seconds <= event.seconds for event in saved)


@pytest.mark.parametrize(("place", "workers"), [((0, 1), 2), ((1, None), 0), ((1, 5), 2)])
def test_resumed_run_equals_uninterrupted_run(
    place: tuple[int, int | None], workers: int, whole: TrainingParameters, dataset_parameters, tmp_path: Path
):
    """With augmentation, a run resumed at any step produces bit-identical weights and losses."""
    loader = whole.loader.model_copy(update={"num_workers": workers})
    broken = copy_of(whole, tmp_path / "training", loader=loader)
    stop_after(broken.output_dir, *place)
    train(broken, dataset_parameters)
    assert_same_end(whole.output_dir, broken.output_dir)


def test_resumed_run_deletes_partial_set(whole: TrainingParameters, dataset_parameters, tmp_path: Path):
    """The resumed run deletes a partial set and uses the previous one."""
    broken = copy_of(whole, tmp_path / "training")
    stop_after(broken.output_dir, 1, 5)
    newest = checkpoint_paths(broken.output_dir)[-1]
    newest.rename(newest.with_name(f".{newest.name}.tmp"))
    train(broken, dataset_parameters)
    assert_same_end(whole.output_dir, broken.output_dir)
    assert not list((broken.output_dir / "checkpoints").glob(".*"))


def rank_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        line = process.cmdline()
        if "train" in line and "paddle.distributed.launch" not in line:
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("ranks", "number"), [(2, signal.SIGTERM), pytest.param(1, signal.SIGHUP, marks=pytest.mark.exhaustive)]
)
def test_stop_signal_to_one_rank_saves_a_set(
    ranks: int, number: int, dataset_parameters, training_parameters: Build, tmp_path: Path
):
    """If one rank receives SIGTERM or SIGHUP, all ranks save a set and stop, and the resumed run ends as usual."""
    whole = training_parameters(output_dir=tmp_path / "whole", ranks=ranks, epochs=4, batch_size_per_rank=3)
    train(whole, dataset_parameters)
    training = whole.model_copy(update={"output_dir": tmp_path / "training", "save_interval": 99})
    failures: list[BaseException] = []

    def run() -> None:
        try:
            train(training, dataset_parameters)
        except PipelineError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not any(isinstance(event, TrainStep) for event in read_events(events_path(training.output_dir))):
        assert thread.is_alive()
        time.sleep(0.05)
    rank_processes()[-1].send_signal(number)
    thread.join()
    assert failures
    events = read_events(events_path(training.output_dir))
    saved, step = events[-1], next(event for event in reversed(events) if isinstance(event, TrainStep))
    assert isinstance(saved, CheckpointSaved)
    assert (saved.step, step.epoch < 4) == (step.step, True)
    train(training.model_copy(update={"resume": True}), dataset_parameters)
    assert_same_end(whole.output_dir, training.output_dir)


@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_resume_with_different_number_of_ranks_warns(
    ranks: int, whole: TrainingParameters, dataset_parameters, tmp_path: Path
):
    """With a different number of ranks, the run warns and resumes at the same fraction of the epoch."""
    launch = whole.launch.model_copy(update={"devices": tuple(range(ranks))})
    broken = copy_of(whole, tmp_path / "training", launch=launch)
    stop_after(broken.output_dir, 1, 5)
    train(broken, dataset_parameters)
    events = read_events(events_path(broken.output_dir))
    started = [event for event in events if isinstance(event, Started)][-1]
    steps = {1: 6, 3: 2}[ranks]
    assert (started.steps_per_epoch, started.first_step) == (steps, steps + 2 * steps // STEPS)
    (warning,) = [event.message for event in events if isinstance(event, WarningRaised)]
    assert re.findall(r"(\d+) ranks?\b", warning) == [str(ranks), "2"]
    state = json.loads((checkpoint_paths(broken.output_dir)[-1] / "state.json").read_text())
    assert (state["epoch"], state["step"], state["ranks"]) == (2, 2 * steps, ranks)


def test_auto_resumes_only_unfinished_run(whole: TrainingParameters, dataset_parameters, tmp_path: Path):
    """`auto` resumes an unfinished run and starts from scratch after a finished one."""
    broken = copy_of(whole, tmp_path / "training", resume="auto")
    stop_after(broken.output_dir, 1, 4)
    train(broken, dataset_parameters)
    assert_same_end(whole.output_dir, broken.output_dir)
    train(broken, dataset_parameters)
    events = read_events(events_path(broken.output_dir))
    assert [event.first_step for event in events if isinstance(event, Started)] == [0]


def test_rejected_resume_keeps_configuration(whole: TrainingParameters, dataset_parameters, tmp_path: Path, caplog):
    """If a resume is rejected, the configuration that evaluation and export use is kept."""
    other = copy_of(whole, tmp_path / "training", label_smoothing=0.3)
    used = config_path(other.output_dir).read_bytes()
    with pytest.raises(CheckpointError, match=r"Loss\.Train"):
        train(other, dataset_parameters)
    assert config_path(other.output_dir).read_bytes() == used
    assert "--params training.resume=true" not in caplog.text
