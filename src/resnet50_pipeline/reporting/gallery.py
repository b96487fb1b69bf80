"""Small copies of images, as text that an HTML page holds within itself."""

from __future__ import annotations

import base64
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
from resnet50_pipeline.imaging.decode import decode_image

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 168
"""Longest side of a thumbnail in pixels; smaller images stay as they are."""
_JPEG_QUALITY = 82
# Below this, JPEG would smear what little there is.
_SIDE_KEPT_LOSSLESS = 64


@dataclass(frozen=True)
class GalleryImage:
    """One mistake (a row of `confident_mistakes`) and its picture."""

    mistake: Mapping[str, Any]
    data_uri: str
    """Empty where the image could not be read."""
    problem: str
    """Why it could not be read; empty where it was."""
    is_tiny: bool
    """To be shown larger than it is, with its pixels visible."""


def make_gallery(mistakes: pd.DataFrame, dataset_root: Path) -> list[GalleryImage]:
    """Return a thumbnail for every row of a table of `confident_mistakes`, in its order.

    An image that is gone or damaged since the evaluation read it costs its picture only: the problem stands in its
    place, and in the log.
    """
    return [_make_image(mistake, dataset_root) for mistake in mistakes.to_dict("records")]


def data_uri(data: bytes, media_type: str) -> str:
    """Return bytes as a `data:` URI in base64."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _make_image(mistake: Mapping[Any, Any], dataset_root: Path) -> GalleryImage:
    path = str(mistake["path"])
    try:
        pixels = decode_image((dataset_root / path).read_bytes(), path)
    except (OSError, ImageDecodeError) as error:
        problem = f"{type(error).__name__}: {error}"
        logger.warning("the report has no picture of %s: %s", path, problem)
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
