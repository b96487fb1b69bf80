"""Provides the sample's recipe, shortened to a few seconds: data, parameters and the configuration for the ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet50_pipeline.imagenet.lists.files import prefix_list, read_list_file
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.recipe.document import TrainingConfig

BATCH_SIZE = 16
CLASSES = 10


def write_digits(root: Path, train_images_per_class: int) -> None:
    """Write digits and list files with path prefixes."""
    write_sample(root, train_images_per_class=train_images_per_class, val_images_per_class=1)
    for split in ("train", "val"):
        path = root / f"{split}_list.txt"
        path.write_bytes(prefix_list(read_list_file(path, CLASSES), split).data)


def make_parameters(ranks: int = 1, **changes: Any) -> TrainingParameters:
    """Return `params:training` for one epoch of the recipe in conf/base, without its warm-up."""
    values: dict[str, Any] = {
        "epochs": 1,
        "batch_size_per_rank": BATCH_SIZE,
        "eval_batch_size_per_rank": 50,
        "print_batch_step": 5,
        "launch": {"device": "cpu", "devices": list(range(ranks))},
        "arch": {"name": "ResNet50", "zero_init_residual": True, "batch_norm_momentum": 0.8},
        "lr": {"name": "Cosine", "learning_rate": 0.02},
        "train_transform": {"size": 32, "scale": (0.9, 1.0), "ratio": (0.95, 1.05), "flip": False},
        "eval_transform": {"resize_short": 32, "size": 32},
        "loader": {"num_workers": 0},
    }
    return TrainingParameters.model_validate({**values, **changes})


def make_config(
    training: TrainingParameters, root: Path, training_dir: Path, train_list: str = "train_list.txt"
) -> TrainingConfig:
    """Return the configuration that the ranks read, for the digits in `root`."""
    paths = TrainingPaths(root, root / train_list, root / "val_list.txt", training_dir)
    return render_training_config(training, CLASSES, paths)
