"""Computes the pooled features of a sample of images with a registered model."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from resnet50_pipeline.commands.predict import classify
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.expectations.drift import ImageFeatures
from resnet50_pipeline.imagenet.archives.images import index_archives, read_image
from resnet50_pipeline.imagenet.layout import find_dataset
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.text import list_names

MAX_IMAGES = 1_000
"""Largest number of images in a sample."""
_MAX_NAMED = 3


def open_images(root: Path, dataset: DatasetParameters) -> Callable[[str], bytes]:
    """Return a function that reads an image of the dataset at `root`, from the archives or from a file.

    Raises:
        DatasetError: if the dataset has archives, and these cannot be read.
    """
    has_archives = dataset.train_archive is not None or dataset.val_archive is not None
    return partial(read_image, root, index_archives(find_dataset(root, dataset).archives) if has_archives else {})


def compute_features(inference_model: Path, images: pd.DataFrame, read: Callable[[str], bytes]) -> ImageFeatures:
    """Return the features of at most `MAX_IMAGES` images. The same paths always give the same sample.

    Args:
        inference_model: folder of the exported model.
        images: table with the columns `path` and `sha256`, which is empty if the digest is unknown.
        read: returns the bytes of the image at a path.

    Raises:
        DatasetError: if images cannot be read or decoded, or have another digest.
        ExportError: if the model cannot compute features.
    """
    sample = images.drop_duplicates("path")
    order = sample["path"].map(lambda path: hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())
    sample = sample.loc[order.sort_values().index[:MAX_IMAGES]]
    contents: list[str] = []
    problems: list[str] = []
    # The images may be in archives, so the classifier gets copies.
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / str(number) for number in range(len(sample))]
        for copy, path, expected in zip(copies, sample["path"], sample["sha256"], strict=True):
            try:
                content = read(path)
            except (OSError, KeyError) as error:  # KeyError: not in the archive
                reason = error.strerror if isinstance(error, OSError) else "not in the archive"
                problems.append(f"{path} ({reason})")
                continue
            contents.append(hashlib.sha256(content).hexdigest())
            if expected not in ("", contents[-1]):
                problems.append(f"{path} (changed since the scan)")
            copy.write_bytes(content)
        answers = [] if problems else list(classify(inference_model, copies, 1, with_features=True))
    problems += [
        f"{path} ({answer['error']})"
        for path, answer in zip(sample["path"], answers, strict=False)
        if answer["status"] != 200
    ]
    if problems:
        raise DatasetError(
            f"features need the images, but {len(problems):,} of {len(sample):,} cannot be used: "
            f"{list_names(problems, _MAX_NAMED)} → choose the folder of these images with --reference-root for the "
            "reference, or with --params dataset.root=FOLDER"
        )
    return ImageFeatures(np.array([answer["features"] for answer in answers], np.float32), contents)
