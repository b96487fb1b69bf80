"""Finds odd images: dark, bright, blank, blurred, without detail, or with an unusual shape or size.

The scores are those of CleanVision (github.com/cleanlab/cleanvision). An image is odd if its score exceeds an absolute
bound, derived from CleanVision's thresholds. If more than 5% of the images exceed a bound, as in a dataset of night
skies, the bound is too strict for the dataset. An image must then also be an outlier in the dataset.

An outlier has a modified z-score above 3.5 (Iglewicz and Hoaglin 1993, "How to detect and handle outliers"): 0.6745
times the deviation from the median, divided by the median absolute deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.expectations.findings import Problem
from resnet50_pipeline.expectations.problems import find_locations
from resnet50_pipeline.imagenet.lists.files import Split

ODD_EXPECTATIONS = (
    *("images_are_not_blank", "images_are_not_dark", "images_are_not_bright", "images_are_not_blurred"),
    *("images_have_detail", "aspect_ratios_are_usual", "sizes_fit_their_class"),
)
"""Names of the expectations about odd images."""
GALLERY_IMAGES = 24
"""Number of images of each kind in Data Docs."""
_MAX_Z = 3.5
_MAX_SHARE = 0.05
_DEVIATIONS_PER_Z = 1 / 0.6745
# CleanVision's thresholds: the 99th percentile of the brightness is below 0.32, or 1 minus its 5th percentile is below
# 0.05.
_DARK, _BRIGHT = 0.32, 0.95
# CleanVision's 1 - exp(-0.01 * sharpness) < 0.29.
_BLURRED = -100 * np.log(1 - 0.29)
# CleanVision's threshold is 3 bits for the values of three channels. For a gray image, log2(3) of them are redundant.
_LITTLE_DETAIL = 3 - np.log2(3)
# The percentiles are fewer than 8 of 256 levels apart. JPEG artifacts alone can cause such a difference.
_BLANK = 0.03
# CleanVision's threshold for the shorter side divided by the longer side.
_NARROW = 0.35
# The geometric mean of the sides is at least 4 times, or at most a quarter of, the median of the class.
_SIZE_FACTOR = 4


@dataclass(frozen=True, eq=False)
class OddImages:
    """Odd images of one kind.

    Attributes:
        rows: int64 [K], rows of the manifest, the oddest image first.
        values: float64 [K], the score of each image.
        text: description of an image, with the placeholder `value`.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    text: str

    def mark_rows(self, count: int) -> NDArray[np.bool_]:
        """Return a mask of the manifest's `count` rows that are odd."""
        marked = np.zeros(count, np.bool_)
        marked[self.rows] = True
        return marked


def find_odd_images(manifest: pd.DataFrame) -> dict[str, OddImages]:
    """Return the odd images of each kind, keyed by the name of the expectation that they fail.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`, indexed 0..N-1. Images that the scan did not decode have no
            brightness, detail or sharpness.
    """
    is_ok = (manifest["status"] == "ok").to_numpy()
    low, high, entropy, sharpness = (
        np.where(is_ok, manifest[name].to_numpy(np.float64), np.nan)
        for name in ("brightness_p5", "brightness_p99", "entropy", "sharpness")
    )
    contrast = high - low
    shown = ~(contrast < _BLANK)  # do not also report a blank image as dark, blurred and so on
    log_sharpness = np.log(np.maximum(sharpness, 1e-3))
    return {
        "images_are_not_blank": _select(
            contrast, contrast < _BLANK, "is blank: its brightness, 0 to 1, varies by only {value:.3f}"
        ),
        "images_are_not_dark": _select_low(
            np.where(shown, high, np.nan), _DARK, "is dark: 99% of its pixels have a brightness of at most {value:.2f}"
        ),
        "images_are_not_bright": _select_high(
            np.where(shown, low, np.nan),
            _BRIGHT,
            "is bright: 95% of its pixels have a brightness of at least {value:.2f}",
        ),
        "images_are_not_blurred": _select_low(
            np.where(shown, log_sharpness, np.nan),
            float(np.log(_BLURRED)),
            "is blurred: its edges have a standard deviation of {value:.1f} gray levels",
            shown_values=sharpness,
        ),
        "images_have_detail": _select_low(
            np.where(shown, entropy, np.nan), float(_LITTLE_DETAIL), "has little detail: an entropy of {value:.1f} bits"
        ),
        **_find_odd_shapes(manifest, is_ok),
    }


def explain_odd_images(odd: OddImages, manifest: pd.DataFrame, list_names: Mapping[Split, str]) -> list[Problem]:
    """Return a problem for each odd image, the oddest image first.

    Args:
        odd: odd images of one kind.
        manifest: all images. Listed images come first, in list order.
        list_names: file name of each split's list.
    """
    fix = "review the image, and drop it if it does not show its class"
    locations = find_locations(manifest, odd.rows.tolist(), list_names)
    return [
        Problem(file, line, path, odd.text.format(value=value), fix)
        for (file, line, path), value in zip(locations, odd.values.tolist(), strict=True)
    ]


def _find_odd_shapes(manifest: pd.DataFrame, is_ok: NDArray[np.bool_]) -> dict[str, OddImages]:
    """Return the images with an unusual aspect ratio, and those with an unusual size for their class."""
    width, height = (manifest[name].to_numpy(np.float64) for name in ("width", "height"))
    is_known = is_ok & (width > 0) & (height > 0)
    log_width, log_height = (np.log2(np.where(is_known, side, np.nan)) for side in (width, height))
    ratio = log_width - log_height
    is_narrow = _keep_outliers(np.abs(ratio) > -np.log2(_NARROW), ratio)
    size = (log_width + log_height) / 2
    deviation = size - pd.Series(size).groupby(manifest["label"].to_numpy(np.int64)).transform("median").to_numpy()
    is_odd_size = _keep_outliers(np.abs(deviation) >= np.log2(_SIZE_FACTOR), deviation)
    return {
        "aspect_ratios_are_usual": _select(
            2.0 ** -np.abs(ratio), is_narrow, "has an unusual shape: its sides have a ratio of only {value:.2f}"
        ),
        "sizes_fit_their_class": _select(
            2.0**deviation,
            is_odd_size,
            "has an unusual size: its sides are {value:.2g} times the median of its class",
            severity=-np.abs(deviation),
        ),
    }


def _standardize(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the modified z-scores. If more than half of the values are equal, all other scores are infinite."""
    if np.isnan(values).all():
        return values
    deviations = values - np.nanmedian(values)
    scale = np.nanmedian(np.abs(deviations)) * _DEVIATIONS_PER_Z
    if scale == 0:
        return np.where(deviations == 0, 0, np.copysign(np.inf, deviations))
    scores: NDArray[np.float64] = deviations / scale
    return scores


def _keep_outliers(is_beyond: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the images beyond a bound, or only the outliers among them if too many images are beyond it."""
    known = np.count_nonzero(~np.isnan(values))
    if np.count_nonzero(is_beyond) <= _MAX_SHARE * known:
        return is_beyond
    kept: NDArray[np.bool_] = is_beyond & (np.abs(_standardize(values)) > _MAX_Z)
    return kept


def _select_low(
    values: NDArray[np.float64], bound: float, text: str, *, shown_values: NDArray[np.float64] | None = None
) -> OddImages:
    is_odd = _keep_outliers(values < bound, values)
    return _select(values if shown_values is None else shown_values, is_odd, text)


def _select_high(values: NDArray[np.float64], bound: float, text: str) -> OddImages:
    return _select(values, _keep_outliers(values > bound, values), text, severity=-values)


def _select(
    values: NDArray[np.float64], is_odd: NDArray[np.bool_], text: str, *, severity: NDArray[np.float64] | None = None
) -> OddImages:
    """Return the odd images in ascending order of `severity`, or of their values if `severity` is None."""
    rows = np.flatnonzero(is_odd)
    rows = rows[np.argsort((values if severity is None else severity)[rows], kind="stable")]
    return OddImages(rows, values[rows], text)
