"""Adds the images in archives to the files found by a walk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from resnet50_pipeline.imagenet.archives.images import ArchivedImages
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.walk import WalkedFiles, split_at_nul


def add_archived(walked: WalkedFiles, archived: Mapping[Split, ArchivedImages]) -> WalkedFiles:
    """Add the archived images to the walked files, under the paths that unpacking would create."""
    for split, images in archived.items():
        names = "".join([f"{split}/{name}\0" for name in images.names])[:-1].encode()
        walked = WalkedFiles(
            pa.concat_arrays([walked.paths, split_at_nul(names, len(images.names))]),
            np.concatenate([walked.sizes, images.sizes]),
            np.concatenate([walked.mtimes, images.mtimes]),
            np.concatenate([walked.inodes, np.zeros(len(images.sizes), np.int64)]),
            (*walked.archives, *images.files),
            np.concatenate([walked.file_numbers, images.file_numbers + np.int32(len(walked.archives))]),
            np.concatenate([walked.offsets, images.offsets]),
        )
    return walked
