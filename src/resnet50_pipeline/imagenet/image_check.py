"""Checks that the images have not changed between validation and their use in training or evaluation.

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
from resnet50_pipeline.imagenet.identities import IDENTITY_DTYPE, ImageIdentities, digest_prefixes, find_changed
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.scan.manifest import require_current_format, require_unchanged, select_listed
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
    """Require that the listed images match the manifest, and return their identities.

    Args:
        root: dataset folder.
        lists: entries, keyed by split, with paths relative to `root`.
        manifest_file: Parquet manifest that data_validation wrote.
        shards: folder of the shard set to read the images from; None reads them from separate files.
        cache_dir: folder of the scan caches; without it, every image is read again.
        workers: number of processes; 0 means one per core.

    Raises:
        ImagesChangedError: if images have changed since data_validation; the error names each changed image.
        DatasetError: if the lists differ from the manifest, the shards were packed from different lists, or an older
            version of this package wrote the manifest.
    """
    require_current_format(manifest_file)
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


def find_untrained_images(recorded: Path, train: ListEntries, manifest_file: Path) -> list[str]:
    """Return the train images in the manifest that a training run did not use, because they have changed since the run.

    Args:
        recorded: `images.npy` of the training run. If it does not exist, the images are not compared.
        train: entries of the train list, which has not changed since the run.
        manifest_file: Parquet manifest that data_validation wrote, possibly after the training run.

    Raises:
        DatasetError: if the train list differs from the manifest.
    """
    manifest = pd.read_parquet(manifest_file, columns=["label", *COMPARED])
    require_unchanged({"train": train}, manifest)
    if not recorded.exists():
        return []
    now = _identify(select_listed(manifest, "train"))
    return [now.paths[row] for row in find_changed(np.load(recorded, allow_pickle=False), now)]


def _identify(listed: pd.DataFrame) -> ImageIdentities:
    values = np.zeros(len(listed), IDENTITY_DTYPE)
    values["bytes"] = listed["bytes"].to_numpy(np.int64)
    values["digest"] = digest_prefixes(listed["sha256"].fillna("").tolist())
    return ImageIdentities(listed["path"].tolist(), values)


def _check_shards(folder: Path, entries: ListEntries, listed: pd.DataFrame, split: Split) -> Iterator[tuple[str, str]]:
    """Yield each shard that was packed from other images, and each damaged image in a random sample."""
    packed = find_split(folder, entries)
    images = ShardedImages(folder, packed, entries.paths)
    digests = listed.loc[listed["split"] == split, "sha256"].fillna("").tolist()
    if all(digests):
        yield from _find_other_sources(folder, packed, images, entries, digests)
    for row in random.sample(range(len(entries)), min(SAMPLE, len(entries))):
        if hashlib.sha256(images.read(row)).digest() != images.packed_digest(row):
            yield images.name(row), "has changed since it was packed → run data_preparation again"


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
