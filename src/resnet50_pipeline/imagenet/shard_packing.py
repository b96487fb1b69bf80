"""From validated lists to their shard set, wherever their images are: loose, or in the archives as distributed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.archived_images import ArchivedImages, index_archives
from resnet50_pipeline.imagenet.list_files import ListEntries, Split
from resnet50_pipeline.imagenet.manifest import require_unchanged, select_listed
from resnet50_pipeline.imagenet.shard_build import (
    SplitToPack,
    build_shard_set,
    describe_packing,
    write_no_shard_set,
)
from resnet50_pipeline.imagenet.shard_set import ShardSet
from resnet50_pipeline.imagenet.shard_task import PackedImages
from resnet50_pipeline.parameters import ShardParameters

_MANIFEST_COLUMNS = ["split", "path", "label", "sha256", "status"]
_WHOLE_FILE = -1


def pack_dataset(
    root: Path,
    lists: Mapping[Split, ListEntries],
    manifest_file: Path,
    parameters: ShardParameters,
    archives: Mapping[Split, Path] | None = None,
) -> ShardSet:
    """Make the shard set that the parameters ask for, or say in its place that there is none.

    Args:
        root: dataset folder.
        lists: by split, entries with paths relative to `root`.
        manifest_file: Parquet, of these lists; its digests are those that images must still have.
        parameters: what is made, and where.
        archives: of the splits whose images are read from archives.

    Raises:
        DatasetError: as `build_shard_set`; or the lists were changed since they were validated.
        OutputDirectoryInUseError: another process makes shards in the folder.
    """
    if parameters.mode is None:
        return write_no_shard_set(parameters.output_dir)
    manifest = pd.read_parquet(manifest_file, columns=_MANIFEST_COLUMNS)
    require_unchanged(lists, manifest)
    archived = index_archives(archives or {}, parameters.workers)
    splits = {}
    for split, entries in lists.items():
        digests = select_listed(manifest, split)["sha256"].fillna("").tolist()
        images = (
            _in_archives(archived[split], split, entries, digests)
            if split in archived
            else _loose(root, entries, digests)
        )
        splits[split] = SplitToPack(entries, images)
    return build_shard_set(
        parameters.output_dir,
        splits,
        describe_packing(parameters.mode, parameters),
        images_per_shard=parameters.images_per_shard,
        workers=parameters.workers,
    )


def _loose(root: Path, entries: ListEntries, digests: list[str]) -> PackedImages:
    paths = list(entries.paths)
    folder = str(root)
    files = [f"{folder}/{path}" for path in paths]
    return PackedImages(paths, files, [0] * len(paths), [_WHOLE_FILE] * len(paths), digests)


def _in_archives(archived: ArchivedImages, split: Split, entries: ListEntries, digests: list[str]) -> PackedImages:
    paths = list(entries.paths)
    place_of = {name: place for place, name in enumerate(archived.names)}
    places = [place_of.get(path.removeprefix(f"{split}/"), -1) for path in paths]
    if -1 in places:
        line = places.index(-1)
        raise DatasetError(
            f"{entries.source}:{line + 1}: {paths[line]}: is not in {archived.place}, and {places.count(-1)} of "
            f"{len(paths)} images are not → run data_validation, which names them all"
        )
    archives = [str(file) for file in archived.files]
    return PackedImages(
        paths,
        [archives[archived.file_numbers[place]] for place in places],
        archived.offsets[places].tolist(),
        archived.sizes[places].tolist(),
        digests,
    )
