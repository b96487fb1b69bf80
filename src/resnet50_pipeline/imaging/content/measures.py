"""Measures the content of an image: its difference hash, and scores for brightness, detail and sharpness.

The scores follow CleanVision (github.com/cleanlab/cleanvision, image_property.py), but are computed on a reduced image
or on a sample of the pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.content.difference_hash import has_edges, hash_thumbnails, make_thumbnail
from resnet50_pipeline.imaging.content.reduction import reduce_to_gray

# Perceived brightness of BGR values (Finley 2006, "HSP Color Model"), as in CleanVision.
_BRIGHTNESS_WEIGHTS = np.array([[0.068, 0.691, 0.241]])
_TONES = 256
_ONES = np.ones(_TONES, np.float32)
# Brightness is measured on a grid of pixels whose longer side has 48 to 95 pixels. Averaging pixels instead would hide
# small bright areas.
_SAMPLE_SIDE = 48
# As in CleanVision, sharpness is measured on an image whose longer side has this number of pixels. A smaller image is
# not enlarged.
_SHARPNESS_SIDE = 64
# Pillow's FIND_EDGES, which CleanVision uses: the Laplacian over eight neighbors, clipped to 0..255.
_EDGE_KERNEL = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)


class Measures(NamedTuple):
    """Measures of an image's content. The fields are columns of the manifest.

    Attributes:
        difference_hash: 36 hexadecimal digits; empty if the image has almost no edges or was not decoded.
        brightness_p5: 5th percentile of the brightness, 0..1; NaN if the image was not decoded.
        brightness_p99: 99th percentile of the brightness, 0..1; NaN if the image was not decoded.
        entropy: entropy of the gray values, 0..8 bits; NaN if the image was not decoded.
        sharpness: standard deviation of the edges, 0..128, in an image reduced to 64 pixels; NaN if the image was not
            decoded.
    """

    difference_hash: str = ""
    brightness_p5: float = math.nan
    brightness_p99: float = math.nan
    entropy: float = math.nan
    sharpness: float = math.nan


SCORES = Measures._fields[1:]


class SmallImage(NamedTuple):
    """The pixel data used for measurements, derived from a decoded image; about 20 kB.

    Attributes:
        gray: reduced image, uint8 [h, w].
        sample: regular sample of the pixels, BGR uint8 [h, w, 3].
    """

    gray: NDArray[np.uint8]
    sample: NDArray[np.uint8]


def reduce_pixels(pixels: NDArray[np.uint8]) -> SmallImage:
    """Reduce a decoded image, BGR uint8 [H, W, 3]."""
    height, width = pixels.shape[:2]
    step = max(1, max(height, width) // _SAMPLE_SIDE)
    sample = cv2.resize(pixels, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_NEAREST)
    return SmallImage(reduce_to_gray(pixels), sample)


def measure_content(small: SmallImage) -> Measures:
    """Measure a reduced image."""
    gray = small.gray
    digest = hash_thumbnails(make_thumbnail(gray))
    text = digest.tobytes().hex() if has_edges(digest) else ""
    return Measures(text, *_measure_brightness(small.sample), _measure_entropy(gray), _measure_sharpness(gray))


def _measure_brightness(sample: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the 5th and the 99th percentile of the brightness, 0..1."""
    squares = cv2.transform(cv2.multiply(sample, sample, dtype=cv2.CV_32F), _BRIGHTNESS_WEIGHTS).ravel()
    squares.sort()  # faster than np.partition
    low, high = squares[round(0.05 * (squares.size - 1))], squares[round(0.99 * (squares.size - 1))]
    return math.sqrt(low) / 255, math.sqrt(high) / 255


def _measure_entropy(gray: NDArray[np.uint8]) -> float:
    counts = cv2.calcHist([gray], [0], None, [_TONES], [0, _TONES]).ravel()
    # The divergence from ones is the sum of count * ln(count).
    divergence = cv2.compareHist(counts, _ONES, cv2.HISTCMP_KL_DIV)
    return max(0.0, math.log2(gray.size) - divergence / (gray.size * math.log(2)))


def _measure_sharpness(gray: NDArray[np.uint8]) -> float:
    height, width = gray.shape
    if max(height, width) > _SHARPNESS_SIDE:
        scale = _SHARPNESS_SIDE / max(height, width)
        # The factor is at most two, so bilinear interpolation uses all pixels.
        gray = cv2.resize(gray, (max(1, int(width * scale)), max(1, int(height * scale))))
    return float(cv2.meanStdDev(cv2.filter2D(gray, -1, _EDGE_KERNEL))[1][0, 0])
