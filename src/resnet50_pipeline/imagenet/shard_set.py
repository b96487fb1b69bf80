"""A shard set: the images of both lists in a few plain tar files, and where in them each row of a list is.

    shards/shard_set.json                       what the set is made of; written last, so without it there is no set
    shards/train.npy                            a row an image, in the order of the train list: INDEX_DTYPE
    shards/train/0000-n01440764-000.tar         images of one class, `tar -xf` gives the files that the list names
    shards/val.npy, shards/val/0000-n01440764-000.tar

The ranks read it with NumPy and pread alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError
from resnet50_pipeline.imagenet.list_files import ListEntries, Split, render_list

FORMAT: Literal["resnet50-pipeline shard set, version 1"] = "resnet50-pipeline shard set, version 1"
SHARD_SET_FILE = "shard_set.json"
ShardMode = Literal["original", "jpeg-256", "raw-256"]
# What the images of the modes that shrink are scaled to, unless they are no larger.
SHORT_SIDE = 256

# 56 bytes an image; `digest` is the SHA-256 of the member's bytes.
INDEX_DTYPE = np.dtype(
    [("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("label", "<i8"), ("digest", "u1", (32,))]
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Packing(_Section):
    """What is done to an image before it is packed: members depend on this and on the image alone.

    Attributes:
        mode: `original`: its own bytes; `jpeg-256`: a JPEG whose short side has 256 pixels; `raw-256`: its pixels.
        jpeg_quality: of `jpeg-256`, 1..100.
        interpolation: how an image is scaled, as `ResizeImage` calls it.
        opencv: the version that decoded and scaled; empty for `original`.
    """

    mode: ShardMode
    jpeg_quality: int
    interpolation: Literal["bilinear", "area", "bicubic", "lanczos"]
    opencv: str

    @property
    def pixels(self) -> str:
        """Name what training sees in place of the images' own pixels; empty where it sees those."""
        if self.mode == "original":
            return ""
        quality = f", quality {self.jpeg_quality}" if self.mode == "jpeg-256" else ""
        return f"{self.mode}{quality}, {self.interpolation}, OpenCV {self.opencv}"


class Shard(_Section):
    """One tar file.

    Attributes:
        name: POSIX path below the set's folder.
        bytes: of the file.
        images: members.
        source: digest of what it was made of, the comment in its first header.
    """

    name: str
    bytes: int
    images: int
    source: str


class ShardedSplit(_Section):
    """The images of one list.

    Attributes:
        images: rows of the list.
        list_digest: `sha256:…` of the list file.
        index: name of the index, beside the set's description.
        index_digest: `sha256:…` of the index file.
        shards: the index counts them from 0.
    """

    images: int
    list_digest: str
    index: str
    index_digest: str
    shards: tuple[Shard, ...]


class Fidelity(_Section):
    """How far the pixels that an evaluation sees differ from those of the images themselves.

    Attributes:
        images: val images that were compared.
        identical: of those, without any difference.
        mean_psnr_db: mean of the others' peak signal-to-noise ratios, decibels; None where there are none.
        lowest_psnr_db: the smallest of these.
    """

    images: int
    identical: int
    mean_psnr_db: float | None
    lowest_psnr_db: float | None

    def __str__(self) -> str:
        """Say it in a line."""
        if self.mean_psnr_db is None:
            return f"{self.images} val images compared: every pixel that an evaluation sees is the same"
        return (
            f"{self.images} val images compared: PSNR of what an evaluation sees {self.mean_psnr_db:.1f} dB on "
            f"average, {self.lowest_psnr_db:.1f} dB at least, {self.identical} identical"
        )


class ShardSet(_Section):
    """`shard_set.json`.

    Attributes:
        format: of the folder.
        packing: None where no shards were asked for; then the images are loose files.
        splits: by name of the split; empty without packing.
        fidelity: None without packing.
    """

    format: Literal["resnet50-pipeline shard set, version 1"] = FORMAT
    packing: Packing | None = None
    splits: Mapping[Split, ShardedSplit] = {}
    fidelity: Fidelity | None = None

    def to_json(self) -> str:
        """Return the file's text."""
        return self.model_dump_json(indent=1) + "\n"


def read_shard_set(folder: Path) -> ShardSet:
    """Return what the shard set in a folder is made of; nothing else is looked at.

    Raises:
        DatasetNotFoundError: there is no finished set.
        DatasetError: it is damaged or of another version.
    """
    path = folder / SHARD_SET_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f"{path}: is not there, so the shard set is not finished → run data_preparation, which keeps the shards "
            "that are"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error} → run data_preparation again") from error
    try:
        return ShardSet.model_validate_json(text)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        where = ".".join(map(str, finding["loc"])) or "the file"
        raise DatasetError(
            f"{path}: is no description of a shard set that this version reads: {where}: {finding['msg']} "
            f"(found {finding['input']!r:.60}) → run data_preparation again"
        ) from error


def find_shards(folder: Path) -> Path | None:
    """Return the folder where it has a shard set, None where it says that images are loose files.

    Raises:
        DatasetError: as `read_shard_set`.
    """
    return None if read_shard_set(folder).packing is None else folder


def describe_pixels(folder: Path | None) -> str:
    """Return what is seen in place of the images' own pixels: of a shard set, or (None) of loose files, which is "".

    Raises:
        DatasetError: as `read_shard_set`.
    """
    packing = None if folder is None else read_shard_set(folder).packing
    return "" if packing is None else packing.pixels


def describe_fidelity(folder: Path | None) -> str:
    """Return how far what `describe_pixels` names is from the images' own pixels; "" where that is "".

    Raises:
        DatasetError: as `read_shard_set`.
    """
    shard_set = ShardSet() if folder is None else read_shard_set(folder)
    is_other = shard_set.packing is not None and shard_set.packing.pixels
    return str(shard_set.fidelity) if is_other and shard_set.fidelity is not None else ""


def digest_list(entries: ListEntries) -> str:
    """Return `sha256:…` of the list file of these entries."""
    data = render_list(entries).encode() if entries.plain is None else entries.plain.data
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
