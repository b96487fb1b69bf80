"""Checks that images have not changed since validation, before training or evaluation reads them.

identities = require_validated_images(root, lists, manifest_file, shards=None, cache_dir=cache_dir)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from resnet50_pipeline.exceptions import ImagesChangedError
from resnet50_pipeline.imagenet.identities import IDENTITY_DTYPE, ImageIdentities, digest_prefixes
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.scan.manifest import require_unchanged, select_listed
from resnet50_pipeline.imagenet.scan.unchanged import COMPARED, SAMPLE, find_changed_images
from resnet50_pipeline.imagenet.shards.shard_set import ShardedSplit, read_shard_set
from resnet50_pipeline.imagenet.shards.source import ShardedImages, find_split
from resnet50_pipeline.imagenet.shards.task import PackedImages, ShardTask, digest_sources


def require_validated_images(
    root: Path,
    lists: Mapping[Split, ListEntries],
    manifest_file: Path,
    *,
    shards: Path | None,
    cache_dir: Path | None,
    workers: int = 0,
) -> ImageIdentities:
    """Raise an error if listed images have changed since the manifest was written. Return the images' identities.

    Args:
        root: dataset folder.
        lists: entries, keyed by split, with paths relative to `root`.
        manifest_file: Parquet manifest that data_validation wrote.
        shards: folder of the shard set from which the images are read; None means that separate files are read.
        cache_dir: folder of the scan caches; None reads all images.
        workers: number of processes; 0 means one per core.

    Raises:
        ImagesChangedError: if images have changed since data_validation; the error names each changed image.
        DatasetError: if the lists differ from the manifest, or the shards were packed from different lists.
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
        raise ImagesChangedError([f"{path} {problem}" for path, problem in problems])
    return _identify(listed)


def _identify(listed: pd.DataFrame) -> ImageIdentities:
    values = np.zeros(len(listed), IDENTITY_DTYPE)
    values["bytes"] = listed["bytes"].to_numpy(np.int64)
    values["digest"] = digest_prefixes(listed["sha256"].fillna("").tolist())
    return ImageIdentities(listed["path"].tolist(), values)


def _check_shards(folder: Path, entries: ListEntries, listed: pd.DataFrame, split: Split) -> Iterator[tuple[str, str]]:
    """Yield a problem for each shard that was packed from other images, and for each damaged image in a sample."""
    packed = find_split(folder, entries)
    images = ShardedImages(folder, packed, entries.paths)
    digests = listed.loc[listed["split"] == split, "sha256"].fillna("").tolist()
    if all(digests):
        yield from _find_other_sources(folder, packed, images, entries, digests)
    for row in random.sample(range(len(entries)), min(SAMPLE, len(entries))):
        if hashlib.sha256(images.read(row)).digest() != images.packed_digest(row):
            yield images.name(row), "has different bytes from those that were packed → run data_preparation again"


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
                f"was not packed from the validated images; it contains {paths[0]} and "
                f"{len(rows) - 1} more → run data_preparation again",
            )
