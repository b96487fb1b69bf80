"""Finds images that differ only by their encoding, size or brightness, so that a split keeps them on one side.

All images in a cluster are near its center. Without this rule, a chain of small changes could join most images of a
class, such as all handwritten ones. The drawback is that a long series, such as the frames of a video, is divided into
several clusters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes
from resnet50_pipeline.imaging.difference_hash import HASH_BITS, MAX_DISTANCE, compute_difference_hash
from resnet50_pipeline.progress import show_progress
from resnet50_pipeline.text import format_duration, pluralize

logger = logging.getLogger(__name__)

_IMAGES_PER_TASK = 64
# With fewer images, starting the processes takes longer than decoding the images.
_MIN_IMAGES_FOR_POOL = 1000
_MAX_PRODUCTS = 1 << 24  # 64 MiB
_MAX_PAIRS = 20_000_000  # a few times 160 MB of memory


@dataclass(frozen=True)
class NearIdentical:
    """Clusters of near-identical images.

    Attributes:
        contents: content keys, by path. Near-identical images and copies have the same key.
        kept_pairs: number of near-identical pairs within clusters, without copies.
        separated_pairs: number of near-identical pairs in different clusters, which occur if a series is too long.
        example: paths of a pair within a cluster, or None if there is none.
    """

    contents: Mapping[str, str]
    kept_pairs: int
    separated_pairs: int
    example: tuple[str, str] | None


class _Task(NamedTuple):
    root: str
    paths: Sequence[str]


def find_near_identical(root: Path, digests: Mapping[str, str], workers: int = 0) -> NearIdentical:
    """Hash the images, and cluster the ones whose hashes differ in at most `MAX_DISTANCE` bits.

    Args:
        root: dataset folder.
        digests: digest of each image's content, keyed by path relative to `root`. Images without a digest could not be
            read and are skipped. Only one copy of an image is hashed.
        workers: number of processes; 0 means one per core.

    Raises:
        DatasetError: if there are too many near-identical pairs.
    """
    first_path: dict[str, str] = {}
    for path in sorted(path for path, digest in digests.items() if digest):
        first_path.setdefault(digests[path], path)
    paths = list(first_path.values())
    hashes, rows = _hash_images(root, paths, count_workers(workers))
    unique, unique_of = np.unique(hashes, axis=0, return_inverse=True)
    unique_of = unique_of.reshape(-1)  # NumPy 2.0 returns a different shape
    sizes = np.bincount(unique_of, minlength=len(unique))
    pairs = find_near_pairs(unique)
    centers = cluster(pairs, sizes)
    contents = {path: digest for path, digest in digests.items() if digest}
    member_of_center: dict[int, str] = {}
    example = None
    key_of: dict[str, str] = {}
    for row, at in zip(rows.tolist(), unique_of.tolist(), strict=True):
        path = paths[row]
        other = member_of_center.setdefault(int(centers[at]), path)
        if other != path and example is None:
            example = (other, path)
        key_of[digests[path]] = digests[other]
    contents = {path: key_of.get(digest, digest) for path, digest in contents.items()}
    is_kept = centers[pairs[:, 0]] == centers[pairs[:, 1]]
    products = sizes[pairs[:, 0]] * sizes[pairs[:, 1]]
    same_hash = int((sizes * (sizes - 1) // 2).sum())
    return NearIdentical(contents, same_hash + int(products[is_kept].sum()), int(products[~is_kept].sum()), example)


def find_near_pairs(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return all pairs of hashes that differ in at most `MAX_DISTANCE` bits, int64 [P, 2], with the smaller row first.

    The bits are divided into `MAX_DISTANCE` + 1 bands. Two near hashes agree in at least one band, so only hashes that
    share a band are compared.

    Args:
        hashes: uint8 [N, HASH_BITS / 8], all different.

    Raises:
        DatasetError: if there are too many pairs to store.
    """
    count, bands = len(hashes), MAX_DISTANCE + 1
    # Neighboring bits are often the same in many images, for example above a horizon. Each band therefore contains bits
    # from all parts of the image.
    order = np.random.default_rng(0).permutation(HASH_BITS)
    codes = np.zeros(0, np.int64)
    for band in range(bands):
        bits = order[band::bands]
        values = np.unpackbits(hashes, axis=1)[:, bits].astype(np.int64) @ (1 << np.arange(len(bits)))
        rows = np.argsort(values, kind="stable")
        buckets = np.split(rows, np.flatnonzero(np.diff(values[rows])) + 1)
        found, stored = [codes], len(codes)
        for code in (code for bucket in buckets if len(bucket) > 1 for code in _compare(hashes, bucket)):
            found.append(code)
            stored += len(code)
            if stored > _MAX_PAIRS:
                raise DatasetError(
                    f"over {_MAX_PAIRS:,} pairs of images are near-identical, such as frames of a fixed camera → name "
                    "the images that belong together with --group-by, and add --ignore-similar"
                )
        codes = np.unique(np.concatenate(found))
    return np.stack([codes // max(count, 1), codes % max(count, 1)], axis=1)


def cluster(pairs: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the center of each row. The center of a center is the row itself; every other row is near its center.

    The row with the most near images becomes the first center, and its near rows join its cluster. The next center is
    the row with the most near images among the remaining rows. A row without near rows forms its own cluster.

    Args:
        pairs: near rows, int64 [P, 2].
        sizes: number of images that each row represents, int64 [N].
    """
    count = len(sizes)
    centers = np.arange(count)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(count + 1))
    degrees = sizes.astype(np.int64).copy()
    np.add.at(degrees, both[:, 0], sizes[both[:, 1]])
    is_taken = np.zeros(count, np.bool_)
    for row in np.lexsort((np.arange(count), -degrees)).tolist():
        if is_taken[row] or starts[row] == starts[row + 1]:
            continue
        near = both[starts[row] : starts[row + 1], 1]
        near = near[~is_taken[near]]
        centers[near] = row
        is_taken[near] = is_taken[row] = True
    return centers


def _compare(hashes: NDArray[np.uint8], bucket: NDArray[np.int64]) -> Iterable[NDArray[np.int64]]:
    """Yield the near pairs of a bucket of rows, each as the smaller row times N plus the larger row."""
    # The product of two rows of -1 and 1 is the number of equal bits minus the number of different bits.
    bucket = np.sort(bucket)
    signs = np.unpackbits(hashes[bucket], axis=1).astype(np.float32) * 2 - 1
    step = max(1, _MAX_PRODUCTS // len(bucket))
    for start in range(0, len(bucket), step):
        products = signs[start : start + step] @ signs[start:].T
        left, right = np.nonzero(products >= HASH_BITS - 2 * MAX_DISTANCE)
        is_pair = left < right
        yield bucket[start + left[is_pair]] * len(hashes) + bucket[start + right[is_pair]]


def _hash_images(root: Path, paths: Sequence[str], workers: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the hashes, uint8 [M, HASH_BITS / 8], and each hash's position in `paths`. Some images have no hash."""
    started = time.monotonic()
    tasks = [_Task(str(root), paths[at : at + _IMAGES_PER_TASK]) for at in range(0, len(paths), _IMAGES_PER_TASK)]
    in_processes = workers > 1 and len(paths) >= _MIN_IMAGES_FOR_POOL
    results = map_in_processes(_hash_task, tasks, workers) if in_processes else map(_hash_task, tasks)
    found: list[NDArray[np.uint8] | None] = []
    with show_progress(len(paths)) as advance:
        for hashes in results:
            found += hashes
            advance(len(hashes))
    rows = [row for row, one in enumerate(found) if one is not None]
    seconds = time.monotonic() - started
    logger.info(
        "compared %s in %s, %.0f images/s",
        *(pluralize(len(paths), "image"), format_duration(seconds), len(paths) / max(seconds, 1e-9)),
    )
    hashed = [one for one in found if one is not None]
    return np.array(hashed, np.uint8).reshape(-1, HASH_BITS // 8), np.array(rows, np.int64)


def _hash_task(task: _Task) -> list[NDArray[np.uint8] | None]:
    """Return the hash of each image in a task; None if an image has no hash."""
    hashes: list[NDArray[np.uint8] | None] = []
    for path in task.paths:
        try:
            hashes.append(compute_difference_hash(Path(task.root, path).read_bytes()))
        except OSError:
            hashes.append(None)  # the scan has already reported this image
    return hashes
