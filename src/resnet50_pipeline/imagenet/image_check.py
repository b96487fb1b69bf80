"""Checks, before images are read for training or evaluation, that they are still the ones that were validated.

    identities = require_validated_images(root, lists, manifest_file, shards=None, cache_dir=cache_dir)
    require_same_images(training_dir / "images.npy", identities)

The first call compares the images with the manifest. The second one compares them with those of the interrupted run.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import CheckpointError, ImagesChangedError
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.scan.manifest import require_unchanged, select_listed
from resnet50_pipeline.imagenet.scan.unchanged import COMPARED, SAMPLE, find_changed_images
from resnet50_pipeline.imagenet.shards.shard_set import ShardedSplit, read_shard_set
from resnet50_pipeline.imagenet.shards.source import ShardedImages, find_split
from resnet50_pipeline.imagenet.shards.task import PackedImages, ShardTask, digest_sources
from resnet50_pipeline.text import list_names, pluralize

_IDENTITY_DTYPE = np.dtype([("bytes", "<i8"), ("digest", "<u8")])
_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class ImageIdentities:
    """The content of the images of both lists, in list order.

    Attributes:
        paths: [N] paths, those of train/ first.
        values: [N] size in bytes, and the first 8 bytes of the digest; 0 if the scan computed no digest.
    """

    paths: Sequence[str]
    values: NDArray[np.void]


def require_validated_images(
    root: Path,
    lists: Mapping[Split, ListEntries],
    manifest_file: Path,
    *,
    shards: Path | None,
    cache_dir: Path | None,
    workers: int = 0,
) -> ImageIdentities:
    """Raise if the images of the lists are not those of the manifest, and return their identities.

    Args:
        root: dataset folder.
        lists: entries, keyed by split, with paths relative to `root`.
        manifest_file: Parquet manifest that data_validation wrote.
        shards: folder of the shard set from which the images are read; None means that separate files are read.
        cache_dir: folder of the scan caches; None reads all images.
        workers: number of processes; 0 means one per core.

    Raises:
        ImagesChangedError: if images have changed since data_validation; the error names each of them.
        DatasetError: if the lists differ from the manifest, or the shards were packed from other lists.
    """
    manifest = pd.read_parquet(manifest_file, columns=["label", *COMPARED])
    require_unchanged(lists, manifest)
    listed = select_listed(manifest)
    listed = listed[listed["split"].isin(list(lists))]
    problems = (
        find_changed_images(root, manifest_file, listed, cache_dir, workers)
        if shards is None
        else [problem for split, entries in lists.items() for problem in _check_shards(shards, entries, listed, split)]
    )
    if problems:
        raise ImagesChangedError([f"{path}: {problem}" for path, problem in problems])
    return _identify(listed)


def save_identities(path: Path, identities: ImageIdentities) -> None:
    """Write the identities to a NumPy file."""
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, identities.values, allow_pickle=False)


def require_same_images(path: Path, identities: ImageIdentities) -> None:
    """Raise if the images differ from those for which `save_identities` wrote the file at `path`.

    If one of the two scans computed no digest of an image, only the sizes are compared. The lists are not compared: a
    checkpoint set contains their digests.

    Raises:
        CheckpointError: if images have changed; the message names the first of them.
    """
    saved = np.load(path, allow_pickle=False)
    if saved.dtype != _IDENTITY_DTYPE or saved.shape != identities.values.shape:
        return
    now = identities.values
    both_have_digests = (saved["digest"] != 0) & (now["digest"] != 0)
    differs = (saved["bytes"] != now["bytes"]) | (both_have_digests & (saved["digest"] != now["digest"]))
    if differs.any():
        rows = np.flatnonzero(differs).tolist()
        names = [identities.paths[row] for row in rows]
        raise CheckpointError(
            f"{path.parent}: {pluralize(len(rows), 'image')} of {len(now):,} changed since this training started: "
            f"{list_names(names, _MOST_NAMED)} → restore the images and run data_validation again to resume, or start "
            "from scratch with training.resume=false"
        )


def _identify(listed: pd.DataFrame) -> ImageIdentities:
    values = np.zeros(len(listed), _IDENTITY_DTYPE)
    values["bytes"] = listed["bytes"].to_numpy(np.int64)
    digests = listed["sha256"].fillna("").tolist()
    values["digest"] = [int(digest[:16], 16) if digest else 0 for digest in digests]
    return ImageIdentities(listed["path"].tolist(), values)


def _check_shards(folder: Path, entries: ListEntries, listed: pd.DataFrame, split: Split) -> Iterator[tuple[str, str]]:
    """Yield a problem for each shard that was packed from other images, and for each damaged image of a sample."""
    packed = find_split(folder, entries)
    images = ShardedImages(folder, packed, entries.paths)
    digests = listed.loc[listed["split"] == split, "sha256"].fillna("").tolist()
    if all(digests):
        yield from _find_other_sources(folder, packed, images, entries, digests)
    for row in random.sample(range(len(entries)), min(SAMPLE, len(entries))):
        if hashlib.sha256(images.read(row)).digest() != images.packed_digest(row):
            yield images.name(row), "its bytes differ from those that were packed → run data_preparation again"


def _find_other_sources(
    folder: Path, packed: ShardedSplit, images: ShardedImages, entries: ListEntries, digests: Sequence[str]
) -> Iterator[tuple[str, str]]:
    packing = read_shard_set(folder).packing
    if packing is None:
        return
    for shard, rows in zip(packed.shards, images.rows_by_shard(), strict=True):
        paths = [entries.paths[row] for row in rows]
        nothing = [0] * len(rows)
        sources = PackedImages(paths, paths, nothing, nothing, [digests[row] for row in rows])
        if digest_sources(ShardTask(folder / shard.name, packing, sources)) != shard.source:
            yield (
                str(folder / shard.name),
                f"was packed from other images than those that data_validation found; it contains {paths[0]} and "
                f"{len(rows) - 1} more → run data_preparation again",
            )
