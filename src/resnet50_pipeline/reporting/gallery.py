"""Creates thumbnails of misclassified images for embedding in an HTML page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.figures import data_uri
from resnet50_pipeline.imaging.decode import decode_image

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 168
"""Longest side of a thumbnail, in pixels. Smaller images are not resized."""
_JPEG_QUALITY = 82
# Images up to this size are stored without loss because JPEG artifacts would dominate them.
_SIDE_KEPT_LOSSLESS = 64


@dataclass(frozen=True)
class GalleryImage:
    """A misclassified image (a row of `confident_mistakes`) and its thumbnail."""

    mistake: Mapping[str, Any]
    data_uri: str
    """The thumbnail, or "" if the image could not be read."""
    problem: str
    """Error message if the image could not be read, or "" if it was read."""
    is_tiny: bool
    """Whether the page should enlarge the image without smoothing it."""


def make_gallery(mistakes: pd.DataFrame, dataset_root: Path) -> list[GalleryImage]:
    """Return a thumbnail for each row of a `confident_mistakes` table, in the same order.

    If an image was deleted or damaged after the evaluation, its entry contains an error message instead of a thumbnail.
    The error is also logged.
    """
    return [_make_image(mistake, dataset_root) for mistake in mistakes.to_dict("records")]


def _make_image(mistake: Mapping[Any, Any], dataset_root: Path) -> GalleryImage:
    path = str(mistake["path"])
    try:
        # The evaluation has already decoded this image, so TIFF files must have been allowed.
        pixels = decode_image((dataset_root / path).read_bytes(), tiff=True)
    except (OSError, ImageDecodeError) as error:
        problem = f"{type(error).__name__}: {error}"
        logger.warning("the report cannot show %s: %s", path, problem)
        return GalleryImage(mistake, "", problem, is_tiny=False)
    is_tiny = max(pixels.shape[:2]) <= _SIDE_KEPT_LOSSLESS
    return GalleryImage(mistake, _encode_thumbnail(pixels, is_lossless=is_tiny), "", is_tiny)


def _encode_thumbnail(pixels: NDArray[np.uint8], *, is_lossless: bool) -> str:
    height, width = pixels.shape[:2]
    shrink = min(1.0, THUMBNAIL_SIDE / max(height, width))
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if is_lossless:
        return data_uri(cv2.imencode(".png", pixels)[1].tobytes(), "image/png")
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return data_uri(cv2.imencode(".jpg", pixels, quality)[1].tobytes(), "image/jpeg")
