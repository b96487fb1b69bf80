"""`params:training` and `params:dataset` together with their folders, which come from the catalog in a real run."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.paddleclas import config
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.recipe.document import TrainingConfig


class PlacedTraining(TrainingParameters):
    """`params:training`, and the training folder."""

    output_dir: Path


class PlacedDataset(DatasetParameters):
    """`params:dataset`, and the dataset folder."""

    root: Path


def render_training_config(
    training: PlacedTraining,
    dataset: PlacedDataset,
    train_list: Path | None = None,
    val_list: Path | None = None,
    shards: Path | None = None,
) -> TrainingConfig:
    """Return the configuration of a training run. The default lists are those in the dataset folder."""
    paths = config.TrainingPaths(
        dataset_root=dataset.root,
        train_list=train_list or dataset.root / "train_list.txt",
        val_list=val_list or dataset.root / "val_list.txt",
        training_dir=training.output_dir,
        shards=shards,
    )
    return config.render_training_config(training, dataset.class_num, paths, tiff=dataset.tiff)
