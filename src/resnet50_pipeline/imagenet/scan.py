"""One pass over all images of a dataset folder: the manifest, which everybody else reads."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from resnet50_pipeline.imagenet.inspection import Inspection
from resnet50_pipeline.imagenet.inspection_pool import inspect_images
from resnet50_pipeline.imagenet.list_files import ListEntries, Split
from resnet50_pipeline.imagenet.manifest import MANIFEST_COLUMNS, UNLISTED_LABEL

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def scan_dataset(root: Path, lists: Mapping[Split, ListEntries], workers: int = 0) -> pd.DataFrame:
    """Read every listed image once, decode every pixel of it, and look for images that no list names.

    What is wrong with an image stands in its row (`status`, `problem`); nothing of it is raised.

    Args:
        root: dataset folder.
        lists: by split, entries with paths relative to `root`.
        workers: processes that read; 0 means one a core.

    Returns:
        The manifest, columns `MANIFEST_COLUMNS`: one row a list entry, train first, in the order of the lists; then
        one row an image that no list names, with label -1, status "unlisted", and nothing of its content.

    Raises:
        DatasetError: a process that read images was killed.
    """
    start = time.monotonic()
    real_root = root.resolve()
    paths = [path for entries in lists.values() for path in entries.paths]
    inspections = inspect_images(real_root, paths, workers or len(os.sched_getaffinity(0)))
    listed = pd.DataFrame(inspections, columns=Inspection._fields)
    listed["split"] = np.repeat(list(lists), [len(entries) for entries in lists.values()])
    listed["path"] = paths
    listed["label"] = np.concatenate([entries.labels for entries in lists.values()])
    unlisted = _find_unlisted(real_root, list(lists), frozenset(paths))
    manifest = pd.concat([listed, unlisted], ignore_index=True)
    manifest["synset"] = [_synset_of(path) for path in manifest["path"]]
    _fill_in_synsets(manifest)
    seconds = time.monotonic() - start
    logger.info(
        "read %d images in %.1f s, %.0f images/s; %d images are in no list",
        len(listed),
        seconds,
        len(listed) / seconds,
        len(unlisted),
    )
    numbers = dict.fromkeys(("bytes", "width", "height", "exif_orientation"), "int64")
    return manifest.astype({"label": "Int64", **numbers})[list(MANIFEST_COLUMNS)]


def _find_unlisted(root: Path, splits: Sequence[Split], listed: frozenset[str]) -> pd.DataFrame:
    """Return a row for each image file below the split folders that is not in `listed`, sorted by path."""
    found = sorted(
        (path, size, split) for split in splits for path, size in _walk(root / split, f"{split}/") if path not in listed
    )
    return pd.DataFrame(
        {
            "split": [split for _, _, split in found],
            "path": [path for path, _, _ in found],
            "label": UNLISTED_LABEL,
            **Inspection(status="unlisted", problem="is in no list → add a line for it, or delete it")._asdict(),
            "bytes": [size for _, size, _ in found],
        },
        index=range(len(found)),
    )


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield path, with `prefix` in front, and size of each image file below `folder`; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith("."):
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


def _synset_of(path: str) -> str:
    """Return the class folder of `train/n01440764/….JPEG`, and "" for the flat `val/ILSVRC2012_val_….JPEG`."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def _fill_in_synsets(manifest: pd.DataFrame) -> None:
    """Give the images of a flat folder the class folder that the train images of their label are in, if it is one."""
    train = manifest[(manifest["split"] == "train") & (manifest["synset"] != "") & (manifest["label"] >= 0)]
    folders = train[["label", "synset"]].drop_duplicates()
    synset_of_label = folders.drop_duplicates("label", keep=False).set_index("label")["synset"]
    unknown = manifest["synset"] == ""
    manifest.loc[unknown, "synset"] = manifest.loc[unknown, "label"].map(synset_of_label).fillna("")
