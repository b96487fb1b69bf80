"""Nodes of `data_preparation`: the list files as PaddleClas reads them, the label map, and packed shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.expectations.report import require_valid
from resnet50_pipeline.imagenet.layout import find_dataset
from resnet50_pipeline.parameters import DataPreparationParameters, DatasetParameters


def write_lists(
    dataset_root: Path,
    listed_images: pd.DataFrame,
    validation_report: dict[str, Any],
    dataset: DatasetParameters,
    data_preparation: DataPreparationParameters,
) -> tuple[bytes, bytes]:
    """Return the train and the val list with paths relative to the dataset root; the user's lists stay as they are.

    The images that they name are loose files by then, unless they are packed: of archives, if that is asked for, they
    are unpacked here.
    """
    from resnet50_pipeline.imagenet.layout import read_lists
    from resnet50_pipeline.imagenet.manifest import require_unchanged
    from resnet50_pipeline.imagenet.unpack import provide_loose_images

    require_valid(validation_report)
    layout = find_dataset(dataset_root, dataset)
    lists = read_lists(layout, dataset.class_num, dataset.label_base, repair=dataset.repair)
    require_unchanged({split: prefixed.entries for split, prefixed in lists.items()}, listed_images)
    if dataset.unpack or data_preparation.shards.mode is None:
        provide_loose_images(dataset_root, layout.archives, listed_images, is_unpacking=dataset.unpack)
    return lists["train"].data, lists["val"].data


def write_label_map(
    dataset_root: Path, listed_images: pd.DataFrame, validation_report: dict[str, Any], dataset: DatasetParameters
) -> dict[str, Any]:
    """Return id, synset and name of each class."""
    from resnet50_pipeline.imagenet.synsets import as_label_map, find_classes

    require_valid(validation_report)
    layout = find_dataset(dataset_root, dataset)
    return as_label_map(find_classes(listed_images, dataset.class_num, dataset_root, layout.meta))


def pack_shards(
    *,
    dataset_root: Path,
    train_list: Path,
    val_list: Path,
    manifest_file: Path,
    dataset: DatasetParameters,
    data_preparation: DataPreparationParameters,
) -> Path:
    """Pack the images of both lists, if that is asked for, and return the folder."""
    from resnet50_pipeline.imagenet.list_files import read_list_file
    from resnet50_pipeline.imagenet.shard_packing import pack_dataset

    layout = find_dataset(dataset_root, dataset)
    pack_dataset(
        dataset_root,
        {"train": read_list_file(train_list, dataset.class_num), "val": read_list_file(val_list, dataset.class_num)},
        manifest_file,
        data_preparation.shards,
        # Those that were unpacked are read from where they are.
        {} if dataset.unpack else layout.archives,
    )
    return data_preparation.shards.output_dir
