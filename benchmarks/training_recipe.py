"""The sample's recipe at a length of seconds: parameters, data and the configuration that the ranks read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet50_pipeline.imagenet.list_files import prefix_list, read_list_file
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.training_config import TrainingConfig

BATCH_SIZE = 16
CLASSES = 10


def write_digits(root: Path, train_images_per_class: int) -> DatasetParameters:
    """Write digits, and the lists of them with their prefixes in place."""
    write_sample(root, train_images_per_class=train_images_per_class, val_images_per_class=1)
    for split in ("train", "val"):
        path = root / f"{split}_list.txt"
        path.write_bytes(prefix_list(read_list_file(path, CLASSES), split).data)
    return DatasetParameters(root=root, class_num=CLASSES)


def make_parameters(output_dir: Path, ranks: int = 1, **changes: Any) -> TrainingParameters:
    """Return `params:training` of one epoch of conf/base's recipe, without its warm-up."""
    values: dict[str, Any] = {
        "output_dir": output_dir,
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


def make_config(training: TrainingParameters, dataset: DatasetParameters, train_list: Path) -> TrainingConfig:
    """Return what the ranks read."""
    return render_training_config(training, dataset, train_list, dataset.root / "val_list.txt")
