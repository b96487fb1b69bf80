"""Records a training run's images, and compares them with the images of a resumed run or another machine.

    save_identities(training_dir / "images.npy", identities)
    require_same_images(training_dir / "images.npy", later_identities)

The ranks import this module, so it must not depend on the manifest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.text import list_names, pluralize

IDENTITY_DTYPE = np.dtype([("bytes", "<i8"), ("digest", "<u8")])
_MAX_NAMED = 5
# A network file system takes about a millisecond per request, but serves many requests at once.
_THREADS = 8
_FILES_PER_TASK = 1000
_MISSING = -1
_NO_DIGEST = "0" * 16


@dataclass(frozen=True, eq=False)
class ImageIdentities:
    """Size and digest of every image in both lists, in list order.

    Attributes:
        paths: [N] paths, train/ first.
        values: [N] size in bytes and first 8 bytes of the digest. The digest is 0 if the scan did not compute it.
    """

    paths: Sequence[str]
    values: NDArray[np.void]


def digest_prefix(sha256: str) -> int:
    """Return the first 8 bytes of a hexadecimal SHA-256 digest as a number."""
    return int(sha256[:16], 16)


def digest_prefixes(sha256: Sequence[str]) -> NDArray[np.uint64]:
    """Return each digest's prefix, or 0 for an empty string. This is faster than a loop over `digest_prefix`."""
    texts = "".join(digest[:16] or _NO_DIGEST for digest in sha256)
    return np.frombuffer(bytes.fromhex(texts), ">u8").astype(np.uint64)


def save_identities(path: Path, identities: ImageIdentities) -> None:
    """Write the identities to a NumPy file."""
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, identities.values, allow_pickle=False)


def read_identities(path: Path, images: int) -> NDArray[np.void] | None:
    """Return the values that `save_identities` wrote, or None if the number of values is not `images`."""
    values: NDArray[np.void] = np.load(path, allow_pickle=False)
    return values if values.dtype == IDENTITY_DTYPE and values.shape == (images,) else None


def require_same_images(path: Path, identities: ImageIdentities) -> None:
    """Raise an error if the images differ from the images that `save_identities` recorded at `path`.

    If an image's digest is missing on either side, only its size is compared. The lists are not compared here, because
    checkpoints already contain their digests.

    Raises:
        CheckpointError: if images have changed; the message names a few of them.
    """
    now = identities.values
    saved = read_identities(path, len(now))
    if saved is None:
        return
    if rows := find_changed(saved, identities):
        names = [identities.paths[row] for row in rows]
        raise CheckpointError(
            f"{path.parent}: {len(rows):,} of {pluralize(len(now), 'image')} changed since this training run started: "
            f"{list_names(names, _MAX_NAMED)} → to resume, restore the images and run data_validation again; to start "
            "from scratch, set training.resume=false"
        )


def find_changed(saved: NDArray[np.void], identities: ImageIdentities) -> list[int]:
    """Return the rows in which recorded values differ from the identities. Extra rows at the end are ignored."""
    rows = min(len(saved), len(identities.values))
    before, now = saved[:rows], identities.values[:rows]
    both_have_digests = (before["digest"] != 0) & (now["digest"] != 0)
    differs = (before["bytes"] != now["bytes"]) | (both_have_digests & (before["digest"] != now["digest"]))
    return [int(row) for row in np.flatnonzero(differs)]


def find_other_sizes(
    files: Sequence[str], expected: NDArray[np.int64], on_progress: Callable[[], None]
) -> list[tuple[int, str]]:
    """Return the index and problem of each file that is missing or has an unexpected size.

    Args:
        files: [N] paths.
        expected: [N] sizes in bytes.
        on_progress: called after every thousand files.
    """
    sizes: list[int] = []
    tasks = [files[start : start + _FILES_PER_TASK] for start in range(0, len(files), _FILES_PER_TASK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for found in pool.map(_read_sizes, tasks):
            sizes += found
            on_progress()
    differs = np.array(sizes, np.int64) != expected
    return [
        (row, "is missing" if sizes[row] == _MISSING else f"has {sizes[row]:,} bytes, not {expected[row]:,}")
        for row in np.flatnonzero(differs).tolist()
    ]


def find_other_content(
    files: Sequence[str], expected: NDArray[np.uint64], on_progress: Callable[[], None]
) -> Iterator[tuple[int, str]]:
    """Yield the index and problem of each file that cannot be read or has an unexpected digest.

    Args:
        files: [N] paths.
        expected: [N] digests as in `ImageIdentities`. Files whose digest is 0 are not read.
        on_progress: called after each file.
    """
    for row in np.flatnonzero(expected).tolist():
        try:
            digest = digest_prefix(hashlib.sha256(Path(files[row]).read_bytes()).hexdigest())
        except OSError as error:
            yield row, f"cannot be read: {error.strerror}"
        else:
            if digest != expected[row]:
                yield row, "has different content"
        on_progress()


def _read_sizes(files: Sequence[str]) -> list[int]:
    return [_read_size(path) for path in files]


def _read_size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - creating a million Path objects would double the time
    except OSError:
        return _MISSING
