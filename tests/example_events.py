"""Events of a training run with plausible values, of which a test states only those that matter to it."""

from __future__ import annotations

from typing import Any

from resnet50_pipeline.events import Started, TrainStep


def started(**changes: Any) -> Started:
    """Return the event of a new run with two CPU ranks."""
    values: dict[str, Any] = {
        "ranks": 2,
        "device": "cpu",
        "epochs": 1,
        "steps_per_epoch": 9,
        "train_images": 9,
        "val_images": 9,
        "first_step": 0,
        "paddle_version": "3.3.1",
    }
    return Started.model_validate(values | changes)


def train_step(**changes: Any) -> TrainStep:
    """Return the event of the first step."""
    values: dict[str, Any] = {
        "step": 1,
        "epoch": 1,
        "loss": 1.0,
        "top1": 0.5,
        "learning_rate": 0.1,
        "images_per_second": 30.0,
        "reader_seconds": 0.0,
        "batch_seconds": 0.5,
    }
    return TrainStep.model_validate(values | changes)
