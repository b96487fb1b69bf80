"""Nodes of the `training` pipeline: run the ranks and summarize their events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.training_dir import best_checkpoint, events_path


def train_network(
    *,
    dataset_folder: Path,
    train_list: Path,
    val_list: Path,
    shards: Path,
    manifest_file: Path,
    scan_cache_folder: Path,
    training_folder: Path,
    dataset: DatasetParameters,
    training: TrainingParameters,
) -> Path:
    """Render the PaddleClas YAML file, train with it, and return the folder with all training results.

    Before the ranks start, the images are compared with the manifest from data_validation and, in a resumed run, with
    the images that the run started with.

    The folder contains the YAML file, the events and the checkpoint sets. The YAML file is not a catalog dataset, so
    that a run that starts at this node cannot use the YAML file of an earlier run.
    """
    from resnet50_pipeline.git import git_at_start
    from resnet50_pipeline.imagenet.image_check import require_validated_images
    from resnet50_pipeline.imagenet.layout import count_classes
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.imagenet.shards.shard_set import resolve_shards
    from resnet50_pipeline.paddleclas import config, train
    from resnet50_pipeline.pipelines.training.weights import fetch_pretrained_model

    training, used_shards = fetch_pretrained_model(training), resolve_shards(shards)
    train_entries, val_entries = (read_list_file(path, dataset.class_num) for path in (train_list, val_list))
    images = require_validated_images(
        dataset_folder,
        {"train": train_entries, "val": val_entries},
        manifest_file,
        shards=used_shards,
        cache_dir=scan_cache_folder,
    )
    rendered = config.render_training_config(
        training,
        dataset.class_num or count_classes((train_entries, val_entries)),
        config.TrainingPaths(dataset_folder, train_list, val_list, training_folder, used_shards),
        (train_entries.delimiter, val_entries.delimiter),
        tiff=dataset.tiff,
    )
    return train.train_network(rendered, training, images, str(git_at_start(Path.cwd())))


def summarize_training(training_dir: Path, training: TrainingParameters) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the history (one row per event) and the summary of a finished training run."""
    from resnet50_pipeline.paddleclas.history import training_history, training_summary

    events = events_path(training_dir)
    checkpoint = best_checkpoint(training_dir).relative_to(training_dir)
    return training_history(events), training_summary(events, training.arch.name, str(checkpoint))
