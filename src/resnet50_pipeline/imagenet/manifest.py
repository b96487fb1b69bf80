"""The manifest: a table with one row a list entry, in the lists' order, and one row an image that no list names.

split  synset     path                                label  bytes  format  mode  width  height  sha256  …  status
train  n01440764  train/n01440764/n01440764_26.JPEG   0      13697  JPEG    RGB   250    250     9f2b…      ok
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.list_files import ListEntries, Split

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
)
UNLISTED_LABEL = -1


def select_listed(manifest: pd.DataFrame, split: Split | None = None) -> pd.DataFrame:
    """Return the rows of images that a list names, of one split or of both."""
    is_listed = manifest["status"] != "unlisted"
    return manifest[is_listed] if split is None else manifest[is_listed & (manifest["split"] == split)]


def require_unchanged(lists: Mapping[Split, ListEntries], manifest: pd.DataFrame) -> None:
    """Make sure that the list files are still those that the manifest was made from.

    Args:
        lists: by split, entries with paths relative to the dataset root.
        manifest: of a former scan.

    Raises:
        DatasetError: entries were added, removed, reordered or given another label since.
    """
    for split, entries in lists.items():
        listed = select_listed(manifest, split)
        if list(entries.paths) != listed["path"].tolist() or entries.labels.tolist() != listed["label"].tolist():
            raise DatasetError(
                f"{entries.source} was changed since it was validated: it has {len(entries)} entries, the manifest "
                f"{len(listed)} of {split}/ → run data_validation again"
            )
