"""Finds images that differ only in encoding, size or brightness, so that they can be kept in the same split.

Small images of similar objects, such as pairs of trousers, can have similar hashes even though their pixels differ.
Near-identical images must therefore have correlated thumbnails too.

All images in a cluster are near its center. Otherwise, chains of small changes could join most images of a class, as
with handwritten digits. The drawback is that a long series, such as the frames of a video, is divided among several
clusters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes
from resnet50_pipeline.imaging.content.difference_hash import (
    HASH_SIDE,
    MIN_CORRELATION,
    compute_thumbnail,
    correlate,
    hash_thumbnails,
)
from resnet50_pipeline.imaging.content.near_pairs import MAX_PAIRS, find_near_pairs
from resnet50_pipeline.progress import show_progress
from resnet50_pipeline.text import format_duration, pluralize

logger = logging.getLogger(__name__)

_IMAGES_PER_TASK = 64
# With fewer images, starting processes takes longer than decoding.
_MIN_IMAGES_FOR_POOL = 1000
_PAIRS_AT_ONCE = 100_000


@dataclass(frozen=True)
class NearIdentical:
    """Clusters of near-identical images.

    Attributes:
        contents: content keys, by path. Copies and near-identical images in a cluster share a key.
        kept_pairs: number of near-identical pairs within clusters, not counting copies.
        separated_pairs: number of near-identical pairs whose images are in different clusters because they belong to a
            long series.
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
    """Cluster the images whose hashes differ in at most `MAX_DISTANCE` bits and whose thumbnails are correlated.

    Args:
        root: dataset folder.
        digests: digest of each image's content, keyed by path relative to `root`. Copies are hashed once. Unreadable
            images have no digest and are skipped.
        workers: number of processes; 0 means one per core.

    Raises:
        DatasetError: if there are too many near-identical pairs.
    """
    first_path: dict[str, str] = {}
    for path in sorted(path for path, digest in digests.items() if digest):
        first_path.setdefault(digests[path], path)
    paths = list(first_path.values())
    thumbnails, rows = _read_thumbnails(root, paths, count_workers(workers))
    pairs = find_near_identical_pairs(thumbnails)
    centers = cluster(pairs, len(thumbnails))
    contents = {path: digest for path, digest in digests.items() if digest}
    member_of_center: dict[int, str] = {}
    example = None
    key_of: dict[str, str] = {}
    for row, center in zip(rows.tolist(), centers.tolist(), strict=True):
        path = paths[row]
        other = member_of_center.setdefault(center, path)
        if other != path and example is None:
            example = (other, path)
        key_of[digests[path]] = digests[other]
    contents = {path: key_of.get(digest, digest) for path, digest in contents.items()}
    kept_pairs = int((centers[pairs[:, 0]] == centers[pairs[:, 1]]).sum())
    return NearIdentical(contents, kept_pairs, len(pairs) - kept_pairs, example)


def find_near_identical_pairs(thumbnails: NDArray[np.uint8], max_pairs: int = MAX_PAIRS) -> NDArray[np.int64]:
    """Return the pairs of near-identical images as row numbers, int64 [P, 2], with the smaller number first.

    Among more than 10,000 images, up to 1% of the pairs can be missing.

    Args:
        thumbnails: uint8 [N, HASH_SIDE, HASH_SIDE + 1].
        max_pairs: largest number of pairs with similar hashes.

    Raises:
        DatasetError: if there are too many pairs to store.
    """
    near = find_near_pairs(hash_thumbnails(thumbnails), max_pairs=max_pairs)
    if not near.is_complete:
        raise DatasetError(
            f"more than {max_pairs:,} pairs of images are near-identical, like frames from a fixed camera → group "
            "related images with --group-by and add --ignore-similar"
        )
    starts = range(0, len(near.rows), _PAIRS_AT_ONCE)
    found = [
        rows[correlate(thumbnails[rows[:, 0]], thumbnails[rows[:, 1]]) >= MIN_CORRELATION]
        for rows in (near.rows[start : start + _PAIRS_AT_ONCE] for start in starts)
    ]
    return np.concatenate([near.rows[:0], *found])


def cluster(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the center of each row. A center is its own center, and every other row is near its center.

    The algorithm is greedy: the row with the most near rows becomes a center, and its near rows join its cluster. This
    step repeats with the remaining rows, until each row is in a cluster, possibly on its own.

    Args:
        pairs: pairs of near rows, int64 [P, 2].
        count: number of rows.
    """
    centers = np.arange(count)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(count + 1))
    degrees = np.diff(starts)
    is_taken = np.zeros(count, np.bool_)
    for row in np.lexsort((np.arange(count), -degrees)).tolist():
        if is_taken[row] or starts[row] == starts[row + 1]:
            continue
        near = both[starts[row] : starts[row + 1], 1]
        near = near[~is_taken[near]]
        centers[near] = row
        is_taken[near] = is_taken[row] = True
    return centers


def _read_thumbnails(root: Path, paths: Sequence[str], workers: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the thumbnails, uint8 [M, HASH_SIDE, HASH_SIDE + 1], and the index in `paths` of each one.

    Images that cannot be decoded or have almost no edges are left out.
    """
    started = time.monotonic()
    tasks = [_Task(str(root), paths[at : at + _IMAGES_PER_TASK]) for at in range(0, len(paths), _IMAGES_PER_TASK)]
    in_processes = workers > 1 and len(paths) >= _MIN_IMAGES_FOR_POOL
    results = map_in_processes(_read_task, tasks, workers) if in_processes else map(_read_task, tasks)
    found: list[NDArray[np.uint8] | None] = []
    with show_progress(len(paths)) as advance:
        for thumbnails in results:
            found += thumbnails
            advance(len(thumbnails))
    rows = [row for row, one in enumerate(found) if one is not None]
    seconds = time.monotonic() - started
    logger.info(
        "compared %s in %s, %.0f images/s",
        *(pluralize(len(paths), "image"), format_duration(seconds), len(paths) / max(seconds, 1e-9)),
    )
    read = [one for one in found if one is not None]
    return np.array(read, np.uint8).reshape(-1, HASH_SIDE, HASH_SIDE + 1), np.array(rows, np.int64)


def _read_task(task: _Task) -> list[NDArray[np.uint8] | None]:
    """Return the thumbnail of each image in a task; None if an image has none."""
    thumbnails: list[NDArray[np.uint8] | None] = []
    for path in task.paths:
        try:
            thumbnails.append(compute_thumbnail(Path(task.root, path).read_bytes()))
        except OSError:
            thumbnails.append(None)  # unreadable; already reported by the scan
    return thumbnails
