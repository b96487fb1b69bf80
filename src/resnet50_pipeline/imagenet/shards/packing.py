"""Packs validated lists into a shard set, from separate image files or from the original archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.archives.images import ArchivedImages, index_archives
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.scan.manifest import require_unchanged, select_listed
from resnet50_pipeline.imagenet.shards.build import (
    SplitToPack,
    build_shard_set,
    resolve_packing,
    write_no_shard_set,
)
from resnet50_pipeline.imagenet.shards.shard_set import ShardSet
from resnet50_pipeline.imagenet.shards.task import PackedImages
from resnet50_pipeline.parameters import ShardParameters

_MANIFEST_COLUMNS = ["split", "path", "label", "sha256", "status"]
_WHOLE_FILE = -1


def pack_dataset(
    *,
    root: Path,
    lists: Mapping[Split, ListEntries],
    manifest_file: Path,
    folder: Path,
    parameters: ShardParameters,
    archives: Mapping[Split, Path] | None = None,
    tiff: bool = False,
) -> ShardSet:
    """Build the shard set that the parameters define, or record that training reads separate files.

    Args:
        root: dataset folder.
        lists: entries, keyed by split, with paths relative to `root`.
        manifest_file: Parquet manifest of these lists. The images must still match its digests.
        folder: destination of the shard set.
        parameters: mode and size of the shards.
        archives: path of each archived split's archive.
        tiff: whether to accept TIFF files.

    Raises:
        DatasetError: if the lists have changed since validation, or for the same reasons as `build_shard_set`.
        OutputDirectoryInUseError: if another process is building shards in the folder.
    """
    if parameters.mode is None:
        return write_no_shard_set(folder)
    manifest = pd.read_parquet(manifest_file, columns=_MANIFEST_COLUMNS)
    require_unchanged(lists, manifest)
    archived = index_archives(archives or {}, parameters.workers)
    splits = {}
    for split, entries in lists.items():
        digests = select_listed(manifest, split)["sha256"].fillna("").tolist()
        images = (
            _locate_archived(archived[split], split, entries, digests)
            if split in archived
            else _locate_loose(root, entries, digests)
        )
        splits[split] = SplitToPack(entries, images)
    return build_shard_set(
        folder,
        splits,
        resolve_packing(parameters.mode, parameters),
        images_per_shard=parameters.images_per_shard,
        workers=parameters.workers,
        tiff=tiff,
    )


def _locate_loose(root: Path, entries: ListEntries, digests: list[str]) -> PackedImages:
    paths = list(entries.paths)
    files = [f"{root}/{path}" for path in paths]
    return PackedImages(paths, files, [0] * len(paths), [_WHOLE_FILE] * len(paths), digests)


def _locate_archived(archived: ArchivedImages, split: Split, entries: ListEntries, digests: list[str]) -> PackedImages:
    paths = list(entries.paths)
    index_of = {name: row for row, name in enumerate(archived.names)}
    rows = [index_of.get(path.removeprefix(f"{split}/"), -1) for path in paths]
    if -1 in rows:
        line = rows.index(-1)
        raise DatasetError(
            f"{entries.source}:{line + 1}: {paths[line]} is not in {archived.display_name}; "
            f"{rows.count(-1)} of {len(paths)} images are missing from the archive → run data_validation to list them"
        )
    archives = [str(file) for file in archived.files]
    return PackedImages(
        paths,
        [archives[archived.file_numbers[row]] for row in rows],
        archived.offsets[rows].tolist(),
        archived.sizes[rows].tolist(),
        digests,
    )
