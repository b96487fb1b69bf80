"""Verifies archives against the MD5 digests published on image-net.org."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.progress import show_progress

logger = logging.getLogger(__name__)

# https://image-net.org/challenges/LSVRC/2012/2012-downloads.php: training images (tasks 1 and 2, 138 GB), validation
# images (all tasks, 6.3 GB). torchvision.datasets.imagenet contains the same values.
PUBLISHED_MD5: Mapping[Split, str] = {
    "train": "1d675b47d978889d74fa0da5fadfb00e",
    "val": "29b22e2961454d5413ddabcf34fc5622",
}
_BYTES_PER_READ = 1 << 24


def require_published_md5(archives: Mapping[Split, Path]) -> None:
    """Raise an error if an archive's MD5 differs from the published digest. Every archive is read in full.

    Args:
        archives: archives, keyed by split.

    Raises:
        ParameterError: if there are no archives, or if one is a folder of class archives, which have no published MD5.
        DatasetError: if an archive has a different MD5.
    """
    if not archives:
        raise ParameterError(
            "data_validation.verify_archives: there are no archives to verify → set dataset.train_archive or "
            "dataset.val_archive, or set verify_archives: false"
        )
    for path in archives.values():
        if path.is_dir():
            raise ParameterError(
                f"{path} is a folder of class archives, which have no published MD5 → use the single train archive, "
                "or set data_validation.verify_archives: false"
            )
    for split, path in archives.items():
        found = _digest(path)
        if found != PUBLISHED_MD5[split]:
            raise DatasetError(
                f"{path} has the MD5 {found}, but ILSVRC2012's {split} archive has {PUBLISHED_MD5[split]} → download "
                "it again, or set data_validation.verify_archives: false if you use a different archive on purpose"
            )
        logger.info("%s matches its published MD5", path)


def _digest(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    size, what = path.stat().st_size, f"verifying {path.name}"
    with path.open("rb") as file, show_progress(size, what=what, unit="bytes") as advance:
        while data := file.read(_BYTES_PER_READ):
            digest.update(data)
            advance(len(data))
    return digest.hexdigest()
