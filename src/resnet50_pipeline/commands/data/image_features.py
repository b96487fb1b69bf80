"""Computes the pooled features of samples of images with a registered model."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
"""Maximum number of images in a sample."""
_MAX_NAMED = 3


@dataclass(frozen=True)
class ImageSample:
    """A sample of images.

    Attributes:
        digests: SHA-256 digest of each image, keyed by its path; "" if the digest is unknown.
        read: function that returns the bytes of the image at a path.
    """

    digests: Mapping[str, str]
    read: Callable[[str], bytes]


def open_images(root: Path, dataset: DatasetParameters) -> Callable[[str], bytes]:
    """Return a function that reads images of the dataset at `root`, from its archives or from separate files.

    Raises:
        DatasetError: if an archive cannot be read.
    """
    has_archives = dataset.train_archive is not None or dataset.val_archive is not None
    return partial(read_image, root, index_archives(find_dataset(root, dataset).archives) if has_archives else {})


def draw_sample(images: pd.DataFrame, read: Callable[[str], bytes]) -> ImageSample:
    """Return a sample of at most `MAX_IMAGES` images. The same paths always yield the same sample.

    Args:
        images: table with the columns `path` and `sha256` (empty if the digest is unknown).
        read: function that returns the bytes of the image at a path.
    """
    known = images.drop_duplicates("path")
    order = known["path"].map(lambda path: hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())
    drawn = known.loc[order.sort_values().index[:MAX_IMAGES]]
    return ImageSample(dict(zip(drawn["path"], drawn["sha256"], strict=True)), read)


def compute_features(inference_model: Path, samples: Sequence[ImageSample]) -> list[ImageFeatures]:
    """Return the features of the images in each sample.

    Args:
        inference_model: folder of the exported model. It is loaded once for all samples.
        samples: the images.

    Raises:
        DatasetError: if images cannot be read or decoded, or differ from their digest.
        ExportError: if the model cannot compute features.
    """
    # Pass copies to the classifier, because the images may be in archives.
    with tempfile.TemporaryDirectory() as folder:
        copied = [_copy_images(sample, Path(folder) / str(number)) for number, sample in enumerate(samples)]
        images = [path for copies in copied for path in copies]
        answers = iter(list(classify(inference_model, images, 1, with_features=True)))
    return [
        _collect_features(sample, copies, list(itertools.islice(answers, len(copies))))
        for sample, copies in zip(samples, copied, strict=True)
    ]


def _copy_images(sample: ImageSample, folder: Path) -> dict[Path, str]:
    """Copy the images to a new folder, and return the digest of each copy, in the order of the sample."""
    folder.mkdir()
    copies: dict[Path, str] = {}
    problems: list[str] = []
    for number, (path, expected) in enumerate(sample.digests.items()):
        try:
            content = sample.read(path)
        except (OSError, KeyError) as error:  # KeyError: not in the archive
            reason = error.strerror if isinstance(error, OSError) else "not in the archive"
            problems.append(f"{path} ({reason})")
            continue
        digest = hashlib.sha256(content).hexdigest()
        if expected not in ("", digest):
            problems.append(f"{path} (changed since the scan)")
        copy = folder / str(number)
        copy.write_bytes(content)
        copies[copy] = digest
    _require_usable(problems, sample)
    return copies


def _collect_features(
    sample: ImageSample, copies: Mapping[Path, str], answers: Sequence[dict[str, Any]]
) -> ImageFeatures:
    """Return the features in the answers of the classifier, one answer per copy."""
    answered = zip(sample.digests, answers, strict=True)
    _require_usable([f"{path} ({answer['error']})" for path, answer in answered if answer["status"] != 200], sample)
    features = np.array([answer["features"] for answer in answers], np.float32)
    return ImageFeatures(features, list(copies.values()))


def _require_usable(problems: Sequence[str], sample: ImageSample) -> None:
    """Raise an error if there are problems, one per image."""
    if problems:
        raise DatasetError(
            f"the features cannot be computed, because {len(problems):,} of {len(sample.digests):,} images cannot be "
            f"used: {list_names(problems, _MAX_NAMED)} → set the folder of the images: --reference-root FOLDER for the "
            "reference, otherwise --params dataset.root=FOLDER"
        )
