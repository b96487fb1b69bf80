"""Defines the manifest: one row per list entry, in list order, then one row per unlisted file.

split  synset     path                                label  bytes  format  mode  width  height  sha256  …  status
train  n01440764  train/n01440764/n01440764_26.JPEG   0      13697  JPEG    RGB   250    250     9f2b…      ok
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.lists.comparison import find_first_difference
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.text import pluralize

MANIFEST_COLUMNS = (
    "split",
    "synset",
    "path",
    "label",
    "bytes",
    "format",
    "mode",
    "width",
    "height",
    "sha256",
    "exif_orientation",
    "status",
    "problem",
    # Modification time; 0 at the `full` level, where the digest is more reliable.
    "mtime_ns",
    # Depth of the inspection: structure, header or full.
    "scan_level",
    # Number of bytes after the end of the image.
    "trailing_bytes",
    # Content that decoding ignores.
    "ignored",
    # Content measures; see `imaging.content.measures`. Only the `full` level computes them.
    "difference_hash",
    "brightness_p5",
    "brightness_p99",
    "entropy",
    "sharpness",
)
UNLISTED_LABEL = -1
# Images and other files in train/ or val/ that are not in any list.
UNLISTED_STATUSES = ("unlisted", "other_file")


def require_current_format(manifest_file: Path) -> None:
    """Raise an error if an older version of this package wrote the manifest.

    Args:
        manifest_file: Parquet manifest.

    Raises:
        DatasetError: if columns are missing.
    """
    missing = [name for name in MANIFEST_COLUMNS if name not in pq.read_schema(manifest_file).names]
    if missing:
        raise DatasetError(
            f"{manifest_file} was written by an older version: it has no column {missing[0]} → run data_validation "
            "again"
        )


def find_listed(manifest: pd.DataFrame) -> NDArray[np.bool_]:
    """Return a mask of the listed images, [N] bool."""
    is_listed: NDArray[np.bool_] = ~manifest["status"].isin(UNLISTED_STATUSES).to_numpy(dtype=bool)
    return is_listed


def select_listed(manifest: pd.DataFrame, split: Split | None = None) -> pd.DataFrame:
    """Return the rows for the listed images, from one split or both."""
    is_listed = find_listed(manifest)
    return manifest[is_listed] if split is None else manifest[is_listed & (manifest["split"] == split)]


def count_listed_classes(manifest: pd.DataFrame) -> int:
    """Return the number of classes to use if `dataset.class_num` is null: the largest label plus one."""
    return int(manifest["label"].max()) + 1


def require_unchanged(lists: Mapping[Split, ListEntries], manifest: pd.DataFrame) -> None:
    """Raise an error if the list files have changed since the manifest was built.

    Args:
        lists: entries, keyed by split, with paths relative to the dataset root.
        manifest: table from an earlier scan.

    Raises:
        DatasetError: if entries were added, removed, reordered or relabeled.
    """
    is_listed = find_listed(manifest)
    codes, names = pd.factorize(manifest["split"])
    paths, labels = manifest["path"].to_numpy(), manifest["label"].to_numpy(dtype=np.int64, na_value=UNLISTED_LABEL)
    for split, entries in lists.items():
        rows = is_listed & (codes == (names.get_loc(split) if split in names else -1))
        difference = find_first_difference(entries, paths[rows], labels[rows])
        if difference is not None:
            raise DatasetError(
                f"{entries.source} has changed since validation: it has {pluralize(len(entries), 'image')}, the "
                f"manifest has {rows.sum():,} in {split}/, and the first difference is at entry {difference + 1} → "
                "run data_validation again"
            )
