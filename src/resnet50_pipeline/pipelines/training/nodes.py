"""Nodes of `training`: the PaddleClas YAML, the ranks, and what their events say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.training_dir import best_checkpoint, events_path


def render_training_config(
    train_list: Path, val_list: Path, shards: Path, dataset: DatasetParameters, training: TrainingParameters
) -> str:
    """Return the complete PaddleClas YAML of this run."""
    from resnet50_pipeline.imagenet.shard_set import find_shards
    from resnet50_pipeline.paddleclas import config

    return config.render_training_config(training, dataset, train_list, val_list, find_shards(shards)).to_yaml()


def train_network(training_config: Path, training: TrainingParameters) -> Path:
    """Train, and return the folder that holds events and checkpoint sets."""
    from resnet50_pipeline.paddleclas import train

    return train.train_network(training_config, training)


def summarize_training(training_dir: Path, training: TrainingParameters) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the history (a row an event) and the summary of a finished training."""
    from resnet50_pipeline.paddleclas.history import training_history, training_summary

    events = events_path(training_dir)
    checkpoint = best_checkpoint(training_dir).relative_to(training_dir)
    return training_history(events), training_summary(events, training.arch.name, str(checkpoint))
