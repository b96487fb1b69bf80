"""Defines a shard set: the images in both lists, stored in plain tar files, with an index of their positions.

    shards/shard_set.json                       description of the set, written last
    shards/train.npy                            one row per image, in the order of the train list: INDEX_DTYPE
    shards/train/0000-n01440764-000.tar         images of one class; `tar -xf` restores the listed files
    shards/val.npy, shards/val/0000-n01440764-000.tar

Reading a set requires only NumPy and `pread`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split, render_list

FORMAT: Literal["resnet50-pipeline shard set, version 1"] = "resnet50-pipeline shard set, version 1"
SHARD_SET_FILE = "shard_set.json"
ShardMode = Literal["original", "jpeg-256", "raw-256"]
# Short side, in pixels, of images packed in the `jpeg-256` and `raw-256` modes. Smaller images keep their size.
SHORT_SIDE = 256

# 56 bytes per image; `digest` is the SHA-256 of the member's bytes.
INDEX_DTYPE = np.dtype(
    [("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("label", "<i8"), ("digest", "u1", (32,))]
)


class Packing(FrozenModel):
    """Settings for packing images. A member's bytes depend only on these settings and the image.

    Attributes:
        mode: `original` keeps the bytes. `jpeg-256` shrinks the short side to 256 pixels and encodes a JPEG. `raw-256`
            shrinks the image in the same way and stores uncompressed pixels.
        jpeg_quality: 1..100 in `jpeg-256` mode.
        interpolation: interpolation for resizing, as named in `ResizeImage`.
        opencv: version of the OpenCV library that resized and encoded the images; empty for `original`.
    """

    mode: ShardMode
    jpeg_quality: int
    interpolation: Literal["bilinear", "area", "bicubic", "lanczos"]
    opencv: str

    @property
    def pixels(self) -> str:
        """Summary of the settings that change pixels; empty if the images are packed unchanged."""
        if self.mode == "original":
            return ""
        quality = f", quality {self.jpeg_quality}" if self.mode == "jpeg-256" else ""
        return f"{self.mode}{quality}, {self.interpolation}, OpenCV {self.opencv}"


class Shard(FrozenModel):
    """One tar file of a shard set.

    Attributes:
        name: POSIX path below the set's folder.
        bytes: size of the file.
        images: number of members.
        source: digest of the shard's inputs, stored as a comment in its first header.
    """

    name: str
    bytes: int
    images: int
    source: str


class ShardedSplit(FrozenModel):
    """The packed images in one list.

    Attributes:
        images: number of rows in the list.
        list_digest: `sha256:…` of the list file.
        index: name of the index file in the set's folder.
        index_digest: `sha256:…` of the index file.
        shards: shards, in the order of their numbers in the index.
    """

    images: int
    list_digest: str
    index: str
    index_digest: str
    shards: tuple[Shard, ...]


class Fidelity(FrozenModel):
    """Difference between packed and original images after the evaluation transforms.

    Attributes:
        images: number of val images compared.
        identical: number of images with identical pixels.
        mean_psnr_db: mean peak signal-to-noise ratio, in decibels, of the images that differ; None if all are
            identical.
        lowest_psnr_db: lowest ratio among the images that differ; None if all are identical.
    """

    images: int
    identical: int
    mean_psnr_db: float | None
    lowest_psnr_db: float | None

    def __str__(self) -> str:
        """Return a one-line summary."""
        if self.mean_psnr_db is None:
            return f"{self.images} val images compared: all identical after the evaluation transforms"
        return (
            f"{self.images} val images compared: {self.identical} identical after the evaluation transforms; PSNR of "
            f"the other images {self.mean_psnr_db:.1f} dB on average, {self.lowest_psnr_db:.1f} dB minimum"
        )


class ShardSet(FrozenModel):
    """Contents of `shard_set.json`.

    Attributes:
        format: version of the format.
        packing: how images are packed; None if the images are separate files.
        splits: packed lists, keyed by split; empty if the images are separate files.
        fidelity: difference from the original images; None if the images are separate files.
    """

    format: Literal["resnet50-pipeline shard set, version 1"] = FORMAT
    packing: Packing | None = None
    splits: Mapping[Split, ShardedSplit] = {}
    fidelity: Fidelity | None = None

    def to_json(self) -> str:
        """Return the text of `shard_set.json`."""
        return self.model_dump_json(indent=1) + "\n"


def read_shard_set(folder: Path) -> ShardSet:
    """Read the description of the shard set in a folder. The shards themselves are not checked.

    Raises:
        DatasetNotFoundError: if the folder does not contain a finished set.
        DatasetError: if the description is damaged or has another version.
    """
    path = folder / SHARD_SET_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f"{path} is missing, so the shard set is incomplete → run data_preparation, which keeps finished shards"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error} → run data_preparation again") from error
    try:
        return ShardSet.model_validate_json(text)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        where = ".".join(map(str, finding["loc"])) or "the file"
        raise DatasetError(
            f"{path} is damaged or was written by another version: {where}: {finding['msg']} (found "
            f"{finding['input']!r:.60}) → run data_preparation again"
        ) from error


def resolve_shards(folder: Path) -> Path | None:
    """Return `folder` if it contains a shard set, or None if the images are separate files.

    Raises:
        DatasetError: for the same reasons as `read_shard_set`.
    """
    return None if read_shard_set(folder).packing is None else folder


def describe_pixels(folder: Path | None) -> str:
    """Return how the pixels of a shard set were produced, or an empty string if they are the original pixels.

    Raises:
        DatasetError: for the same reasons as `read_shard_set`.
    """
    packing = None if folder is None else read_shard_set(folder).packing
    return "" if packing is None else packing.pixels


def describe_fidelity(folder: Path | None) -> str:
    """Return the fidelity of a shard set as text, or an empty string if its pixels are unchanged.

    Raises:
        DatasetError: for the same reasons as `read_shard_set`.
    """
    shard_set = ShardSet() if folder is None else read_shard_set(folder)
    is_other = shard_set.packing is not None and shard_set.packing.pixels
    return str(shard_set.fidelity) if is_other and shard_set.fidelity is not None else ""


def digest_list(entries: ListEntries) -> str:
    """Return the SHA-256 digest of the list file with these entries, as `sha256:…`."""
    data = render_list(entries).encode() if entries.plain is None else entries.plain.data
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
