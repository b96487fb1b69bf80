"""Counts images by class and size, for the report and the figures in Data Docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.lists.files import SPLITS, Split
from resnet50_pipeline.imagenet.scan.manifest import select_listed

# Bin edges: four bins for each doubling of a side in pixels, two for each doubling of a file size in bytes.
SIDE_EDGES = 2.0 ** np.arange(3, 14.01, 0.25)
BYTES_EDGES = 2.0 ** np.arange(7, 28.01, 0.5)
_QUANTILES = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class ClassCount:
    """Number of images for one class in one split.

    Attributes:
        label: 0-based label.
        name: the class name, or the class folder if it has no name, or `label 3` if it has neither.
        images: number of listed images.
    """

    label: int
    name: str
    images: int


@dataclass(frozen=True, eq=False)
class Distributions:
    """Image counts by class, size in pixels and file size.

    Attributes:
        class_counts: the classes in each split, sorted by label.
        sides: [W, H] number of images by width and height, with bins defined by `SIDE_EDGES`. Images are omitted if the
            scan did not read their headers.
        short_sides: [S] number of images by shorter side, with bins defined by `SIDE_EDGES`.
        file_sizes: [B] number of images by file size, with bins defined by `BYTES_EDGES`.
        quantiles: min, p05, median, p95 and max of `width`, `height`, `short_side` and `bytes`. A key is missing if the
            scan did not read that property of any image.
    """

    class_counts: dict[Split, tuple[ClassCount, ...]]
    sides: NDArray[np.int64]
    short_sides: NDArray[np.int64]
    file_sizes: NDArray[np.int64]
    quantiles: dict[str, dict[str, float]]


def compute_distributions(manifest: pd.DataFrame, class_names: Mapping[int, str] | None = None) -> Distributions:
    """Count the images listed in a manifest by class, pixel dimensions and file size.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`.
        class_names: name of each label. Classes without a name get the name of their class folder.
    """
    listed = select_listed(manifest)
    width, height = (listed[name].to_numpy(dtype=np.int64) for name in ("width", "height"))
    was_read = (width > 0) & (height > 0)
    width, height = width[was_read], height[was_read]
    short = np.minimum(width, height)
    file_bytes = listed["bytes"].to_numpy(dtype=np.int64)
    file_bytes = file_bytes[file_bytes > 0]
    measured = {"width": width, "height": height, "short_side": short, "bytes": file_bytes}
    bins = len(SIDE_EDGES) - 1
    cells = _find_bins(width, SIDE_EDGES) * bins + _find_bins(height, SIDE_EDGES)
    return Distributions(
        class_counts={split: _count_classes(listed, split, class_names or {}) for split in SPLITS},
        sides=np.bincount(cells, minlength=bins * bins).reshape(bins, bins),
        short_sides=np.bincount(_find_bins(short, SIDE_EDGES), minlength=bins),
        file_sizes=np.bincount(_find_bins(file_bytes, BYTES_EDGES), minlength=len(BYTES_EDGES) - 1),
        quantiles={name: summarize(values) for name, values in measured.items() if len(values)},
    )


def as_json(distributions: Distributions) -> dict[str, Any]:
    """Return the distributions section of the report: size quantiles, and images per class in each split."""
    counts = distributions.class_counts
    return {
        "sizes": distributions.quantiles,
        "images_per_class": {
            split: {
                **summarize(np.array([one.images for one in counts[split]])),
                "by_label": {str(one.label): one.images for one in counts[split]},
            }
            for split in SPLITS
            if counts[split]
        },
    }


def summarize(values: NDArray[np.int64]) -> dict[str, float]:
    """Return the minimum, 5th percentile, median, 95th percentile and maximum of a non-empty array."""
    found = np.quantile(values, list(_QUANTILES.values()))
    return dict(zip(_QUANTILES, found.tolist(), strict=True))


def _count_classes(listed: pd.DataFrame, split: Split, names: Mapping[int, str]) -> tuple[ClassCount, ...]:
    images = listed[listed["split"] == split]
    first = images.drop_duplicates("label")
    synsets = dict(zip(first["label"].tolist(), first["synset"].tolist(), strict=True))
    labels, counts = np.unique(images["label"].to_numpy(dtype=np.int64), return_counts=True)
    return tuple(
        ClassCount(label, names.get(label) or synsets[label] or f"label {label}", count)
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
    )


def _find_bins(values: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin index of each value. Values outside the edges are counted in the first or last bin."""
    found: NDArray[np.int64] = np.searchsorted(edges, values, side="right") - 1
    return np.clip(found, 0, len(edges) - 2)
