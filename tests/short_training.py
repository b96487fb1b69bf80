"""Runs, truncates and compares training runs that take seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from placed import PlacedDataset, PlacedTraining, render_training_config
from resnet50_pipeline.events import EpochEnd, read_events
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.launch.command import TRAINER, Program, build_launch_command
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, events_path, log_dir


def train(training: PlacedTraining, dataset: PlacedDataset, shards: Path | None = None) -> Path:
    """Render the configuration, train, and return the folder. Read images from `shards` if given."""
    return train_network(render_training_config(training, dataset, shards=shards), training)


def run_disturbed(training: PlacedTraining, dataset: PlacedDataset, checkpoint: Path | None = None, **env: str) -> None:
    """Train with the program `disturbed_ranks.py` and the given environment variables.

    The supervisor runs without restarts and without the rest of `train_network`. Resume from `checkpoint` if given.
    """
    config = render_training_config(training, dataset)
    resumed = config.Global.model_copy(update={"checkpoints": checkpoint and str(checkpoint)})
    path, logs = config_path(training.output_dir), log_dir(training.output_dir)
    write_text(path, config.model_copy(update={"Global": resumed}).to_yaml())
    tests = Path(__file__).parent
    environment = {**training.launch.environment, **env, "PYTHONPATH": str(tests)}
    launch = training.launch.model_copy(update={"environment": environment})
    program = Program(tests / "disturbed_ranks.py", TRAINER.import_path)
    command = build_launch_command(launch, logs, ["train", "--config", str(path)], program=program)
    run_ranks(command, training.output_dir, logs, launch.hang_timeout_seconds, ranks=launch.ranks)


def stop_after(folder: Path, epoch: int, step: int | None = None) -> None:
    """Delete everything after the set of an epoch, or of a step in the next one, as if killed at that point."""
    kept = next(path for path in checkpoint_paths(folder) if path.name.endswith(_name(epoch, step)))
    for path in checkpoint_paths(folder):
        if path.name > kept.name:
            shutil.rmtree(path)
    path = events_path(folder)
    lines = path.read_text().splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if f'"checkpoints/{kept.name}"' in line)
    path.write_text("".join(lines[: end + 1]))


def _name(epoch: int, step: int | None) -> str:
    return f"epoch-{epoch:04d}" if step is None else f"epoch-{epoch:04d}-step-{step:010d}"


def last_weights(folder: Path) -> dict[str, np.ndarray]:
    """Return the weights of the newest set."""
    return load_file(checkpoint_paths(folder)[-1] / "weights.safetensors")


def epoch_losses(folder: Path) -> list[float]:
    """Return the mean training loss of every epoch. If an epoch ran twice, return the second value."""
    events = read_events(events_path(folder))
    return list({event.epoch: event.loss for event in events if isinstance(event, EpochEnd)}.values())


def assert_same_end(whole: Path, resumed: Path) -> None:
    """Check that two training runs have bit-identical weights and the same losses."""
    one, other = last_weights(whole), last_weights(resumed)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert epoch_losses(resumed) == epoch_losses(whole)


def predict_best(
    training_dir: Path, list_file: Path, launch: LaunchParameters, batch_size: int, shards: Path | None = None
) -> pd.DataFrame:
    """Return the predictions of a training run's best checkpoint for a list."""
    predictions, _ = predict_list(
        find_best_model(training_dir),
        list_file,
        launch,
        batch_size_per_rank=batch_size,
        work_parent=training_dir.parent,
        shards=shards,
    )
    return predictions
