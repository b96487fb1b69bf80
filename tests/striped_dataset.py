"""Provides a dataset of stripes that a network learns in seconds, and its parameters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from placed import PlacedTraining

CLASSES = 3


def write_striped_dataset(root: Path) -> Path:
    """Write a folder in ImageNet's layout: 3 classes, 12 train and 7 val images each, prefixed lists."""
    random = np.random.default_rng(0)
    for split, images in (("train", 12), ("val", 7)):
        lines = []
        for label in range(CLASSES):
            folder = root / split / f"n0000000{label}"
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
                pixels[:: label + 2] += 150
                name = f"{folder.name}_{number}.JPEG"
                assert cv2.imwrite(str(folder / name), pixels)
                lines.append(f"{split}/{folder.name}/{name} {label}\n")
        (root / f"{split}_list.txt").write_text("".join(lines))
    return root


def build_training_parameters(output_dir: Path, ranks: int = 1, **changes: Any) -> PlacedTraining:
    """Return `params:training` for a short run. Keywords override values."""
    # The launcher filters the variables that ranks inherit, so coverage must be passed on by name.
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    launch = {"device": "cpu", "devices": list(range(ranks)), "hang_timeout_seconds": 120, "environment": coverage}
    values: dict[str, Any] = {
        "output_dir": output_dir,
        "seed": 7,
        "epochs": 2,
        "batch_size_per_rank": 6,
        "eval_batch_size_per_rank": 4,
        "print_batch_step": 1,
        "launch": launch,
        "arch": {"name": "ResNet18"},
        "lr": {"name": "Cosine", "learning_rate": 0.02},
        "train_transform": {"size": 32},
        "eval_transform": {"resize_short": 32, "size": 32},
        "loader": {"num_workers": 0},
    }
    return PlacedTraining.model_validate({**values, **changes})
