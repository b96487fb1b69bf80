"""A run that stops improving ends early and counts as finished. A resumed run ends at the same epoch."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from placed import PlacedDataset, render_training_config
from resnet50_pipeline.events import EpochEnd, EvalEnd, Finished, read_events
from resnet50_pipeline.exceptions import CheckpointError, TrainingConfigError
from resnet50_pipeline.paddleclas.history import training_summary
from resnet50_pipeline.paddleclas.upstream.config import to_upstream_config
from resnet50_pipeline.processes.interruption import stop_signals
from resnet50_pipeline.trainer.evaluation import Predictions
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.training import TrainingRun
from resnet50_pipeline.training_dir import best_checkpoint, checkpoint_paths, events_path
from short_training import stop_after

# This learning rate is too small to change a float32 weight, so the first epoch remains the best one. BatchNorm's
# statistics would also change the accuracy, so they are frozen.
UNCHANGING = {"lr": {"name": "Cosine", "learning_rate": 1e-30}, "arch": {"name": "ResNet18", "freeze": ["*bn"]}}

Train = Callable[..., Path]


@pytest.fixture
def train(dataset_parameters: PlacedDataset, training_parameters) -> Iterator[Train]:
    """Return a function that trains in this process without improving, and returns the output folder."""
    handlers = {number: signal.getsignal(number) for number in stop_signals()}

    def run(*, resume: bool = False, val_list: Path | None = None, **changes: object) -> Path:
        training = training_parameters(
            **{**UNCHANGING, "epochs": 9, "keep_checkpoints": 9, "batch_size_per_rank": 18, **changes}
        )
        config = render_training_config(training, dataset_parameters, val_list=val_list)
        if resume:
            newest = str(checkpoint_paths(training.output_dir)[-1])
            config = config.model_copy(update={"Global": config.Global.model_copy(update={"checkpoints": newest})})
        TrainingRun(config, Ranks(0, 1, "cpu"), Heartbeat(training.output_dir, 0)).execute()
        return training.output_dir

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def trained_epochs(folder: Path) -> list[int]:
    return [event.epoch for event in read_events(events_path(folder)) if isinstance(event, EpochEnd)]


def test_run_ends_when_patience_runs_out(train: Train):
    """The run ends early and keeps the best set. The last event and the summary record why it ended."""
    folder = train(patience=2)
    assert trained_epochs(folder) == [1, 2, 3]
    *_, last = read_events(events_path(folder))
    assert isinstance(last, Finished)
    assert (last.epochs, last.best_epoch, last.patience, last.step) == (3, 1, 2, 6)
    assert best_checkpoint(folder).name == "epoch-0001"
    assert json.loads((folder / "best.json").read_text())["epoch"] == 1
    summary = training_summary(events_path(folder), "ResNet18", "checkpoints/epoch-0001")
    assert (summary["epochs"], summary["planned_epochs"], summary["patience"]) == (3, 9, 2)


def test_resumed_run_keeps_the_counter(train: Train):
    """A run that resumes before patience runs out ends at the same epoch. A finished run does not train again."""
    folder = train(patience=3)
    stop_after(folder, epoch=2)
    train(patience=3, resume=True)
    assert trained_epochs(folder) == [1, 2, 3, 4]
    train(patience=3, resume=True)
    assert trained_epochs(folder) == [1, 2, 3, 4]
    assert [event.patience for event in read_events(events_path(folder)) if isinstance(event, Finished)] == [3, 3]


def test_patience_is_checked_at_evaluations_only(train: Train):
    """With an evaluation every second epoch, even a resumed run ends at the first one after patience runs out."""
    folder = train(patience=1, eval_interval=2)
    evaluated = [event.epoch for event in read_events(events_path(folder)) if isinstance(event, EvalEnd)]
    assert (trained_epochs(folder), evaluated) == ([1, 2, 3, 4], [2, 4])
    stop_after(folder, epoch=3)
    train(patience=1, eval_interval=2, resume=True)
    assert trained_epochs(folder)[-1] == 4


def test_stopped_run_continues_without_patience(train: Train):
    """A run that stopped early and resumes without patience trains to the last epoch and counts as complete."""
    folder = train(patience=2, epochs=4)
    train(patience=None, epochs=4, resume=True)
    assert trained_epochs(folder) == [1, 2, 3, 4]
    ends = [event for event in read_events(events_path(folder)) if isinstance(event, Finished)]
    assert [(end.epochs, end.patience) for end in ends] == [(3, 2), (4, None)]


def test_best_epoch_follows_the_chosen_metric(train: Train, striped_dataset: Path, tmp_path: Path):
    """With best_metric, the set with the highest balanced accuracy is the best, even if the run was resumed."""
    lines = (striped_dataset / "val_list.txt").read_text().splitlines(keepends=True)
    (tmp_path / "val_list.txt").write_text("".join([*lines[:7], lines[7], *lines[14:16]]))  # 7, 1 and 2 images
    changes = {"best_metric": "balanced_accuracy", "epochs": 5, "lr": {"name": "Cosine", "learning_rate": 0.01}}
    changes |= {"arch": {"name": "ResNet18"}, "val_list": tmp_path / "val_list.txt"}
    folder = train(**changes)
    evaluations = [event for event in read_events(events_path(folder)) if isinstance(event, EvalEnd)]
    values = [event.balanced_accuracy for event in evaluations]
    assert [event.is_best for event in evaluations] == [v > max(values[:i], default=-1) for i, v in enumerate(values)]
    assert json.loads((folder / "best.json").read_text())["epoch"] == values.index(max(values)) + 1
    stop_after(folder, epoch=3)
    train(**changes, resume=True)
    resumed = [event for event in read_events(events_path(folder)) if isinstance(event, EvalEnd)]
    assert [(e.balanced_accuracy, e.is_best) for e in resumed] == [
        (e.balanced_accuracy, e.is_best) for e in evaluations
    ]
    with pytest.raises(CheckpointError, match="best_metric"):
        train(**{**changes, "best_metric": "top1"}, resume=True)


def test_classes_are_counted():
    """Images and hits are counted for each class, including classes without images."""
    top_ids = np.array([[0, 1], [1, 0], [1, 3], [3, 0]])
    found = Predictions(np.arange(4), np.array([0, 0, 1, 3]), top_ids, np.ones((4, 2)), np.ones(4), 1.0, 0.0)
    images, hits = found.count_classes(4)
    assert (images.tolist(), hits.tolist()) == ([2, 1, 0, 1], [1, 1, 0, 1])


def test_paddleclas_engine_rejects_patience(dataset_parameters: PlacedDataset, training_parameters):
    """PaddleClas' engine has no early stopping, so the configuration is rejected."""
    config = render_training_config(training_parameters(patience=3), dataset_parameters)
    with pytest.raises(TrainingConfigError, match=r"patience is 3.*only the native engine"):
        to_upstream_config(config, ranks=1)
