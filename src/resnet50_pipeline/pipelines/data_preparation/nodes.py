"""Nodes of the `data_preparation` pipeline: write PaddleClas' list files and the label map, and pack shards."""

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
    """Return the train and val lists with paths relative to the dataset root. The user's own lists are not changed.

    Unless shards are packed, the images must exist as separate files. With `dataset.unpack`, the archives are unpacked
    first.
    """
    from resnet50_pipeline.imagenet.archives.unpack import ensure_loose_images
    from resnet50_pipeline.imagenet.layout import read_lists
    from resnet50_pipeline.imagenet.scan.manifest import require_unchanged

    require_valid(validation_report)
    layout = find_dataset(dataset_root, dataset)
    lists = read_lists(layout, dataset.class_num, dataset.label_base, repair=dataset.repair)
    require_unchanged({split: prefixed.entries for split, prefixed in lists.items()}, listed_images)
    if dataset.unpack or data_preparation.shards.mode is None:
        ensure_loose_images(dataset_root, layout.archives, listed_images, is_unpacking=dataset.unpack)
    return lists["train"].data, lists["val"].data


def write_label_map(
    dataset_root: Path, listed_images: pd.DataFrame, validation_report: dict[str, Any], dataset: DatasetParameters
) -> dict[str, Any]:
    """Return the label map with the id, synset and name of each class."""
    from resnet50_pipeline.imagenet.scan.manifest import count_listed_classes
    from resnet50_pipeline.imagenet.synsets import as_label_map, find_classes

    require_valid(validation_report)
    layout = find_dataset(dataset_root, dataset)
    class_num = dataset.class_num or count_listed_classes(listed_images)
    return as_label_map(find_classes(listed_images, class_num, dataset_root, layout.meta, layout.classes or ()))


def pack_shards(
    *,
    dataset_root: Path,
    train_list: Path,
    val_list: Path,
    manifest_file: Path,
    shards_folder: Path,
    dataset: DatasetParameters,
    data_preparation: DataPreparationParameters,
) -> Path:
    """Pack the images of both lists if `data_preparation.shards.mode` is set, and return the shards folder."""
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.imagenet.shards.packing import pack_dataset

    layout = find_dataset(dataset_root, dataset)
    pack_dataset(
        root=dataset_root,
        lists={
            "train": read_list_file(train_list, dataset.class_num),
            "val": read_list_file(val_list, dataset.class_num),
        },
        manifest_file=manifest_file,
        folder=shards_folder,
        parameters=data_preparation.shards,
        tiff=dataset.tiff,
        # Unpacked images are read from the dataset root.
        archives={} if dataset.unpack else layout.archives,
    )
    return shards_folder
