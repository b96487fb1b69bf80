"""Whether an archive is the one that image-net.org gives out, by the MD5 that stands on its page."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.progress import show_progress

logger = logging.getLogger(__name__)

# https://image-net.org/challenges/LSVRC/2012/2012-downloads.php: training images (tasks 1 and 2, 138 GB), validation
# images (all tasks, 6.3 GB). torchvision.datasets.imagenet has the same.
PUBLISHED_MD5: Mapping[Split, str] = {
    "train": "1d675b47d978889d74fa0da5fadfb00e",
    "val": "29b22e2961454d5413ddabcf34fc5622",
}
_BYTES_PER_READ = 1 << 24


def require_published(archives: Mapping[Split, Path]) -> None:
    """Make sure that archives have the MD5 that is published for them; each is read once, from end to end.

    Args:
        archives: by split.

    Raises:
        ParameterError: there is none, or a folder of class archives, for which no MD5 is published.
        DatasetError: one has another.
    """
    if not archives:
        raise ParameterError(
            "archives are to be verified, but none is named → set dataset.train_archive or dataset.val_archive, or "
            "data_validation.verify_archives: false"
        )
    for path in archives.values():
        if path.is_dir():
            raise ParameterError(
                f"{path}: is a folder, and for archives of classes no MD5 is published → name the one train archive, "
                "or do not ask for its verification"
            )
    for split, path in archives.items():
        found = _digest(path)
        if found != PUBLISHED_MD5[split]:
            raise DatasetError(
                f"{path}: has the MD5 {found}, but ILSVRC2012's {split} archive has {PUBLISHED_MD5[split]} → download "
                "it again, or do not ask for its verification if it is meant to be another"
            )
        logger.info("%s has the MD5 that is published for it", path)


def _digest(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    size, what = path.stat().st_size, f"verifying {path.name}"
    with path.open("rb") as file, show_progress(size, what=what, unit="bytes") as advance:
        while data := file.read(_BYTES_PER_READ):
            digest.update(data)
            advance(len(data))
    return digest.hexdigest()
