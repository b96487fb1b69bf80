"""Finds near-duplicates in a manifest: images that differ only in encoding, size, brightness or small details.

Pairs of similar hashes in the manifest are candidates. Small images of similar objects may have similar hashes too, so
the candidates are read again, and their thumbnails must be correlated.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.expectations.findings import Problem
from resnet50_pipeline.expectations.problems import find_locations, show_location
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.scan.manifest import find_listed
from resnet50_pipeline.imaging.content.difference_hash import (
    HASH_BITS,
    HASH_SIDE,
    MIN_CORRELATION,
    compute_thumbnail,
    correlate,
)
from resnet50_pipeline.imaging.content.near_pairs import find_near_pairs
from resnet50_pipeline.text import pluralize

NEAR_DUPLICATES_FILE = "near_duplicates.csv"
OTHER_SPLIT, OTHER_LABEL = "splits_share_no_near_duplicates", "near_duplicates_have_one_label"
"""Names of the expectations about near-duplicates."""
_PAIRS_AT_ONCE = 100_000
_HEADER = (
    *("across_splits", "different_labels", "different_bits", "correlation"),
    *("split", "label", "path", "other_split", "other_label", "other_path"),
)
_FIXES = {
    OTHER_SPLIT: "drop one of the two images, or move both to the same split",
    OTHER_LABEL: "relabel or drop the image with the wrong label",
}


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Pairs of near-duplicates among the listed images. Exact copies are not included.

    Attributes:
        rows: int64 [P, 2], rows of the manifest, with the smaller row first; sorted.
        distances: int64 [P], number of bits in which the hashes differ.
        correlations: float32 [P], correlation of the thumbnails.
        across_splits: bool [P], whether the images are in different splits.
        different_labels: bool [P], whether the images have different labels.
        is_complete: False if the search stopped early because there were too many pairs.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.int64]
    correlations: NDArray[np.float32]
    across_splits: NDArray[np.bool_]
    different_labels: NDArray[np.bool_]
    is_complete: bool = True

    def select(self, name: str) -> NDArray[np.bool_]:
        """Return a mask of the pairs that violate an expectation, bool [P]."""
        return self.across_splits if name == OTHER_SPLIT else self.different_labels

    def mark_rows(self, name: str, count: int) -> NDArray[np.bool_]:
        """Return a mask of the manifest's `count` rows that are in a pair that violates an expectation."""
        marked = np.zeros(count, np.bool_)
        marked[self.rows[self.select(name)].ravel()] = True
        return marked

    def describe(self) -> str:
        """Return a sentence with the number of pairs, or "" if there are none."""
        if not len(self.rows):
            return ""
        within = ~self.across_splits & ~self.different_labels
        return (
            f"{'' if self.is_complete else 'more than '}{pluralize(len(self.rows), 'pair')} of near-duplicates: "
            f"{self.across_splits.sum():,} across splits, {self.different_labels.sum():,} with different labels, "
            f"{within.sum():,} in the same class and split; the full list is in {NEAR_DUPLICATES_FILE}"
        )


def find_near_duplicates(
    manifest: pd.DataFrame, read: Callable[[str], bytes], workers: int, *, tiff: bool = False
) -> NearDuplicates:
    """Find the near-duplicates among the listed images that the scan has hashed.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`, indexed 0..N-1.
        read: returns the bytes of an image, given its path relative to the dataset root.
        workers: number of threads that read the images of candidates.
        tiff: whether to decode TIFF files.
    """
    hashed = manifest.loc[find_listed(manifest) & (manifest["difference_hash"] != "")]
    # A copy in the same split and class would only repeat the pairs of the first image.
    hashed = hashed[~hashed.duplicated(["sha256", "split", "label"])]
    hashes = np.frombuffer(bytes.fromhex("".join(hashed["difference_hash"])), np.uint8).reshape(-1, HASH_BITS // 8)
    near = find_near_pairs(hashes)
    rows, distances = hashed.index.to_numpy(np.int64)[near.rows], near.distances
    digests = manifest["sha256"].to_numpy(object)
    is_copy = digests[rows[:, 0]] == digests[rows[:, 1]]
    rows, distances = rows[~is_copy], distances[~is_copy]
    correlations = _correlate(manifest["path"], rows, read, workers, tiff=tiff)
    is_near = correlations >= MIN_CORRELATION
    rows = rows[is_near]
    splits, labels = manifest["split"].to_numpy(object), manifest["label"].to_numpy(np.int64)
    return NearDuplicates(
        rows,
        distances[is_near],
        correlations[is_near],
        np.asarray(splits[rows[:, 0]] != splits[rows[:, 1]], np.bool_),
        labels[rows[:, 0]] != labels[rows[:, 1]],
        near.is_complete,
    )


def explain_near_duplicates(
    name: str, near: NearDuplicates, manifest: pd.DataFrame, list_names: Mapping[Split, str]
) -> list[Problem]:
    """Return a problem for each image with a near-duplicate earlier in the lists, the most similar pairs first.

    Args:
        name: `OTHER_SPLIT` or `OTHER_LABEL`.
        near: near-duplicates in the manifest.
        manifest: all images. Listed images come first, in list order.
        list_names: file name of each split's list.
    """
    chosen = near.select(name)
    pairs = pd.DataFrame(
        {
            **{"first": near.rows[chosen, 0], "later": near.rows[chosen, 1]},
            **{"distance": near.distances[chosen], "correlation": near.correlations[chosen]},
        }
    )
    pairs = pairs.sort_values(["distance", "correlation", "later"], ascending=[True, False, True])
    counts = pairs["later"].value_counts()
    pairs = pairs.drop_duplicates("later")
    if not len(pairs):
        return []
    columns = zip(
        *(find_locations(manifest, pairs[column].tolist(), list_names) for column in ("later", "first")),
        *(manifest.loc[pairs[column].tolist(), "label"].tolist() for column in ("later", "first")),
        *(pairs[column].tolist() for column in ("distance", "correlation")),
        (counts[pairs["later"]] - 1).tolist(),
        strict=True,
    )
    problems = []
    for later, first, label, first_label, distance, correlation, more in columns:
        (file, line, path), (_, _, first_path) = later, first
        text = f"looks like {show_location(first)}"
        if label != first_label:
            text += f" with label {first_label}, but has label {label}"
        text += f" ({distance} of {HASH_BITS} bits differ, correlation {correlation:.3f})"
        if more:
            text += f", and like {pluralize(more, 'other image')}"
        problems.append(Problem(file, line, path, text, _FIXES[name], first_path))
    return problems


def write_near_duplicates(path: Path, near: NearDuplicates, manifest: pd.DataFrame) -> None:
    """Write all pairs to a CSV file, with one row per pair, the most similar pairs first."""
    columns: Sequence[NDArray[Any]] = [manifest[name].to_numpy(object) for name in ("split", "label", "path")]
    order = np.lexsort((near.rows[:, 1], near.rows[:, 0], -near.correlations, near.distances))
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        for at in order.tolist():
            first, other = near.rows[at].tolist()
            writer.writerow(
                [
                    *(int(near.across_splits[at]), int(near.different_labels[at]), near.distances[at]),
                    f"{near.correlations[at]:.4f}",
                    *(column[first] for column in columns),
                    *(column[other] for column in columns),
                ]
            )


def _correlate(
    paths: pd.Series[str], rows: NDArray[np.int64], read: Callable[[str], bytes], workers: int, *, tiff: bool
) -> NDArray[np.float32]:
    """Return the correlation of each pair's thumbnails, float32 [P]; 0 if an image can no longer be read."""
    involved, positions = np.unique(rows, return_inverse=True)
    positions = positions.reshape(rows.shape)

    def load(path: str) -> NDArray[np.uint8] | None:
        try:
            return compute_thumbnail(read(path), tiff=tiff)
        except OSError:
            return None

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(load, paths.iloc[involved].tolist()))
    blank = np.zeros((HASH_SIDE, HASH_SIDE + 1), np.uint8)
    blank[0, 0] = 1  # a constant thumbnail has no correlation
    thumbnails = np.array([blank if one is None else one for one in found], np.uint8).reshape(-1, *blank.shape)
    is_known = np.array([one is not None for one in found], np.bool_)
    correlations = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = positions[start : start + _PAIRS_AT_ONCE]
        both = is_known[part].all(axis=1)
        correlations[start : start + len(part)] = np.where(
            both, correlate(thumbnails[part[:, 0]], thumbnails[part[:, 1]]), 0
        )
    return correlations
