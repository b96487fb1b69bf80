"""Makes the thumbnails in Data Docs: a few images of each class, and the images that failed an expectation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.expectations.distributions import ClassCount
from resnet50_pipeline.expectations.findings import Finding
from resnet50_pipeline.figures import data_uri
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imaging.decode import decode_reduced

MAX_CLASSES = 50
"""Largest number of classes with thumbnails. In larger datasets, the classes are evenly spaced by label."""
IMAGES_PER_CLASS: Mapping[Split, int] = {"train": 5, "val": 3}
_SIDE = 96
# Images up to this size are stored losslessly, because JPEG artifacts would dominate them.
_SIDE_KEPT_LOSSLESS = 64
_JPEG_QUALITY = 80
# Files with any other status are missing or unreadable, or might block forever.
_READABLE = ("ok", "unlisted")


@dataclass(frozen=True)
class Thumbnail:
    """A reduced image.

    Attributes:
        path: path of the image, relative to the dataset root.
        uri: the thumbnail, as a `data:` URI; "" if the image could not be decoded.
        is_tiny: whether the page should enlarge the image without smoothing it.
    """

    path: str
    uri: str
    is_tiny: bool = False


@dataclass(frozen=True)
class ClassImages:
    """Thumbnails of one class.

    Attributes:
        label: 0-based label.
        name: name of the class.
        thumbnails: thumbnails of each split, evenly spaced in list order.
    """

    label: int
    name: str
    thumbnails: Mapping[Split, Sequence[Thumbnail]]


@dataclass(frozen=True)
class Gallery:
    """All thumbnails of a page.

    Attributes:
        classes: the classes with thumbnails, sorted by label.
        class_count: number of all classes.
        by_path: thumbnails of the images that failed an expectation, keyed by image path.
    """

    classes: tuple[ClassImages, ...]
    class_count: int
    by_path: Mapping[str, Thumbnail]


def make_gallery(
    manifest: pd.DataFrame,
    class_counts: Mapping[Split, Sequence[ClassCount]],
    findings: Iterable[Finding],
    read: Callable[[str], bytes],
    *,
    tiff: bool = False,
) -> Gallery:
    """Make the thumbnails for a manifest and its findings.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`.
        class_counts: the classes of each split.
        findings: results of the expectations.
        read: returns the bytes of an image, given its path relative to the dataset root.
        tiff: whether to decode TIFF files.
    """
    names = {one.label: one.name for counts in class_counts.values() for one in counts}
    labels = _space_evenly(np.array(sorted(names)), MAX_CLASSES)
    classes = tuple(
        ClassImages(
            label,
            names[label],
            {
                split: [make_thumbnail(path, read, tiff=tiff) for path in paths]
                for split, paths in _choose_images(manifest, label).items()
            },
        )
        for label in labels.tolist()
    )
    shown = dict.fromkeys(path for finding in findings for path in finding.shown_paths)
    readable = manifest["path"].isin(list(shown)) & manifest["status"].isin(_READABLE)
    wanted = set(manifest.loc[readable, "path"])
    by_path = {path: make_thumbnail(path, read, tiff=tiff) if path in wanted else Thumbnail(path, "") for path in shown}
    return Gallery(classes, len(names), by_path)


def make_thumbnail(path: str, read: Callable[[str], bytes], *, tiff: bool = False) -> Thumbnail:
    """Make the thumbnail of an image. The thumbnail is empty if the image cannot be decoded."""
    try:
        pixels = decode_reduced(read(path), _SIDE, tiff=tiff)
    except (OSError, ImageDecodeError):
        return Thumbnail(path, "")
    is_tiny = max(pixels.shape[:2]) <= _SIDE_KEPT_LOSSLESS
    return Thumbnail(path, _encode(pixels, is_lossless=is_tiny), is_tiny)


def _choose_images(manifest: pd.DataFrame, label: int) -> dict[Split, list[str]]:
    of_label = ((manifest["label"] == label) & (manifest["status"] == "ok")).to_numpy(dtype=bool)
    splits, paths = manifest["split"].to_numpy(), manifest["path"].to_numpy()
    return {
        split: paths[_space_evenly(np.flatnonzero(of_label & (splits == split)), count)].tolist()
        for split, count in IMAGES_PER_CLASS.items()
    }


def _space_evenly(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most `most` of the values, evenly spaced, including the first and the last."""
    if len(values) <= most:
        return values
    chosen: NDArray[np.int64] = values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]
    return chosen


def _encode(pixels: NDArray[np.uint8], *, is_lossless: bool) -> str:
    height, width = pixels.shape[:2]
    if is_lossless:
        return data_uri(cv2.imencode(".png", pixels)[1].tobytes(), "image/png")
    scale = min(1.0, _SIDE / min(height, width))
    # The page crops thumbnails to squares, so only the central square of the image is stored.
    resized = cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    top, left = (max(0, (side - _SIDE) // 2) for side in resized.shape[:2])
    square = np.ascontiguousarray(resized[top : top + _SIDE, left : left + _SIDE])
    return data_uri(cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes(), "image/jpeg")
