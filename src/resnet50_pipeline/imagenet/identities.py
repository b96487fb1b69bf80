"""Records which images a training run uses, and compares them with the images of a resumed run or another machine.

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
_MOST_NAMED = 5
# A network file system can answer many requests at the same time, but each request takes a millisecond.
_THREADS = 8
_FILES_PER_TASK = 1000
_MISSING = -1
_NO_DIGEST = "0" * 16


@dataclass(frozen=True, eq=False)
class ImageIdentities:
    """The content of the images of both lists, in list order.

    Attributes:
        paths: [N] paths, train/ first.
        values: [N] size in bytes, and the first 8 bytes of the digest, or 0 if the scan did not compute one.
    """

    paths: Sequence[str]
    values: NDArray[np.void]


def digest_prefix(sha256: str) -> int:
    """Return the first 8 bytes of a hexadecimal SHA-256 digest as a number."""
    return int(sha256[:16], 16)


def digest_prefixes(sha256: Sequence[str]) -> NDArray[np.uint64]:
    """Return the prefixes of many digests, or 0 for an empty string. This is faster than parsing digests one by one."""
    texts = "".join(digest[:16] or _NO_DIGEST for digest in sha256)
    return np.frombuffer(bytes.fromhex(texts), ">u8").astype(np.uint64)


def save_identities(path: Path, identities: ImageIdentities) -> None:
    """Write the identities to a NumPy file."""
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, identities.values, allow_pickle=False)


def read_identities(path: Path, images: int) -> NDArray[np.void] | None:
    """Return the values that `save_identities` wrote, or None if the file is not for `images` images."""
    values: NDArray[np.void] = np.load(path, allow_pickle=False)
    return values if values.dtype == IDENTITY_DTYPE and values.shape == (images,) else None


def require_same_images(path: Path, identities: ImageIdentities) -> None:
    """Raise an error if the images differ from those that `save_identities` recorded at `path`.

    If either scan did not compute an image's digest, only the sizes are compared. The lists are not compared, because a
    checkpoint set contains their digests.

    Raises:
        CheckpointError: if images have changed; the message names the first ones.
    """
    now = identities.values
    saved = read_identities(path, len(now))
    if saved is None:
        return
    both_have_digests = (saved["digest"] != 0) & (now["digest"] != 0)
    differs = (saved["bytes"] != now["bytes"]) | (both_have_digests & (saved["digest"] != now["digest"]))
    if differs.any():
        rows = np.flatnonzero(differs).tolist()
        names = [identities.paths[row] for row in rows]
        raise CheckpointError(
            f"{path.parent}: {pluralize(len(rows), 'image')} of {len(now):,} changed since this training run started: "
            f"{list_names(names, _MOST_NAMED)} → restore the images and run data_validation again to resume, or start "
            "from scratch with training.resume=false"
        )


def find_other_sizes(
    files: Sequence[str], expected: NDArray[np.int64], on_progress: Callable[[], None]
) -> list[tuple[int, str]]:
    """Return the index of each file that is missing or does not have the expected size, with the problem.

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
    """Yield the index of each file that cannot be read or has a different digest, with the problem.

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
        return os.stat(path).st_size  # noqa: PTH116 - a million paths; creating Path objects would take twice the time
    except OSError:
        return _MISSING
