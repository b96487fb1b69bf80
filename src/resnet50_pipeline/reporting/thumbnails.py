"""Chooses the images that a report shows, and creates their thumbnails."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.reporting.prediction_table import PredictionTable
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 144
"""Longest side of a thumbnail, in pixels. Smaller images are not resized."""
MAX_CHARACTERS = 4_500_000
"""Maximum total length of a page's thumbnails, in base64, so that the page stays below 8 MB."""
_WEBP_QUALITY = 72
_WEBP_LOSSLESS = 101
# Images up to this size are stored losslessly, because compression artifacts would dominate them.
SIDE_KEPT_LOSSLESS = 64
_SHARE_OF_MISTAKES = 0.8
_THREADS = 4
_CHUNK = 64


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails and error messages, keyed by row of the predictions."""

    images: Mapping[int, str]
    """WebP files in base64."""
    problems: Mapping[int, str]
    """Error messages for images that could not be read."""


def choose_images(table: PredictionTable, limit: int) -> list[int]:
    """Return up to `limit` rows to show as thumbnails, the most important first.

    Four fifths of the rows are wrong predictions and the rest are correct ones, unless there are too few of one kind.
    Classes take turns, each starting with its most confident wrong and its least confident correct predictions.
    """
    confidence = table.top_probabilities[:, 0]
    wrong = _by_turns(np.flatnonzero(~table.is_top1), table.labels, -confidence)
    right = _by_turns(np.flatnonzero(table.is_top1), table.labels, confidence)
    places = max(round(limit * _SHARE_OF_MISTAKES), limit - len(right))
    return [*wrong[:places], *right[: limit - min(places, len(wrong))]]


def _by_turns(rows: NDArray[np.int64], labels: NDArray[np.int64], order: NDArray[np.float64]) -> list[int]:
    """Return the rows sorted by their rank within their class, and then by `order`."""
    frame = pd.DataFrame({"row": rows, "label": labels[rows], "order": order[rows]}).sort_values(["order", "row"])
    frame["rank"] = frame.groupby("label").cumcount()
    return frame.sort_values(["rank", "order", "row"])["row"].tolist()


def make_thumbnails(paths: Mapping[int, Path], max_characters: int = MAX_CHARACTERS) -> Thumbnails:
    """Return the thumbnails of image files, in the given order, until the page is full.

    If an image was deleted or damaged after the evaluation, the result contains an error message instead. The number of
    such images is logged.
    """
    images: dict[int, str] = {}
    problems: dict[int, str] = {}
    for row, thumbnail, problem in _encode_all(paths):
        if problem:
            problems[row] = problem
            continue
        max_characters -= len(thumbnail)
        if max_characters < 0:
            break
        images[row] = thumbnail
    if problems:
        row, problem = next(iter(problems.items()))
        hidden = pluralize(len(problems), "image")
        logger.warning("the report cannot show %s, such as %s: %s", hidden, paths[row], problem)
    return Thumbnails(images, problems)


def _encode_all(paths: Mapping[int, Path]) -> Iterable[tuple[int, str, str]]:
    rows = list(paths)
    # Encode in chunks, so that only a few images are encoded needlessly once the page is full.
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            for row, (thumbnail, problem) in zip(
                chunk, pool.map(_encode_file, [paths[row] for row in chunk]), strict=True
            ):
                yield row, thumbnail, problem


def _encode_file(path: Path) -> tuple[str, str]:
    """Return the thumbnail of an image file and an error message. One of the two is empty."""
    try:
        # The evaluation has already decoded this image, so TIFF files must have been allowed.
        return encode_thumbnail(decode_image(path.read_bytes(), tiff=True)), ""
    except OSError as error:
        return "", f"{type(error).__name__}: {error.strerror}"
    except ImageDecodeError as error:
        return "", f"{type(error).__name__}: {error}"


def encode_thumbnail(pixels: NDArray[np.uint8], side: int = THUMBNAIL_SIDE) -> str:
    """Return an image (BGR, [height, width, 3]) as a WebP file in base64, with at most `side` pixels on a side."""
    height, width = pixels.shape[:2]
    quality = _WEBP_LOSSLESS if max(height, width) <= SIDE_KEPT_LOSSLESS else _WEBP_QUALITY
    shrink = min(1.0, side / max(height, width))
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    return base64.b64encode(data).decode("ascii")
