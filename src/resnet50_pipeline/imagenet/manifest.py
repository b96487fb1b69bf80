"""The manifest: a table with one row a list entry, in the lists' order, and one row an image that no list names.

split  synset     path                                label  bytes  format  mode  width  height  sha256  …  status
train  n01440764  train/n01440764/n01440764_26.JPEG   0      13697  JPEG    RGB   250    250     9f2b…      ok
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.list_files import ListEntries, Split
from resnet50_pipeline.imagenet.list_match import find_first_difference

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
    # Time of change of what was not read whole (level full: 0, its digest says more), how far it was looked at
    # (structure, header, full), and the bytes behind its end.
    "mtime_ns",
    "scan_level",
    "trailing_bytes",
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
    is_listed = (manifest["status"] != "unlisted").to_numpy()
    codes, names = pd.factorize(manifest["split"])
    paths, labels = manifest["path"].to_numpy(), manifest["label"].to_numpy(dtype=np.int64, na_value=UNLISTED_LABEL)
    for split, entries in lists.items():
        rows = is_listed & (codes == (names.get_loc(split) if split in names else -1))
        difference = find_first_difference(entries, paths[rows], labels[rows])
        if difference is not None:
            raise DatasetError(
                f"{entries.source} was changed since it was validated: it has {len(entries)} entries, the manifest "
                f"{rows.sum()} of {split}/, and entry {difference + 1} is the first that differs → run "
                "data_validation again"
            )
