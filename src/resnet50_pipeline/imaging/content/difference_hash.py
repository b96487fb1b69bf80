"""Computes a difference hash, which is nearly the same for an image and its re-encoded, resized or brightened copies.

The hash is defined as `dhash(image, hash_size=12)` in imagehash (github.com/JohannesBuchner/imagehash), based on
Krawetz 2013, "Kind of like that". The image is reduced to 13 x 12 gray pixels. Each bit records whether a pixel is
brighter than its left neighbor. For speed, the image is first halved until it is smaller than 128 pixels, which changes
4 of 144 bits on average.

Small images of similar objects can have nearly the same hash even though their pixels differ. The reduced images of
near-identical images must therefore also have a correlation of at least `MIN_CORRELATION`. docs/data-quality.md shows
which variants of an image these two limits detect.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.content.reduction import reduce_to_gray
from resnet50_pipeline.imaging.decode import decode_reduced

HASH_SIDE = 12
HASH_BITS = HASH_SIDE * HASH_SIDE
MAX_DISTANCE = 12
"""Maximum number of bits in which the hashes of near-identical images may differ."""
MIN_CORRELATION = 0.975
"""Minimum correlation between the thumbnails of near-identical images."""
# Images with almost no edges, such as blank sheets of paper, all have nearly the same hash. A hash identifies an image
# only if at least this many bits are set and at least this many are not.
_MIN_BITS = 2 * MAX_DISTANCE
# A smaller image would change the hash, and a larger one would only take longer.
_DECODED_SIDE = 64
# Lobes of the Lanczos filter, as in Pillow.
_LOBES = 3


def compute_difference_hash(data: bytes) -> NDArray[np.uint8] | None:
    """Return an image's hash, uint8 [HASH_BITS / 8], or None if the image cannot be decoded or has almost no edges."""
    thumbnail = compute_thumbnail(data)
    return None if thumbnail is None else hash_thumbnails(thumbnail)


def compute_thumbnail(data: bytes, *, tiff: bool = False) -> NDArray[np.uint8] | None:
    """Return the gray pixels from which the hash is computed, uint8 [HASH_SIDE, HASH_SIDE + 1].

    A JPEG is decoded at a reduced size, which changes at most a few bits of the hash. The result is None if the image
    cannot be decoded or has almost no edges.
    """
    try:
        pixels = decode_reduced(data, _DECODED_SIDE, tiff=tiff)
    except ImageDecodeError:
        return None
    thumbnail = make_thumbnail(reduce_to_gray(pixels))
    return thumbnail if has_edges(hash_thumbnails(thumbnail)) else None


def make_thumbnail(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a gray image, uint8 [H, W], to uint8 [HASH_SIDE, HASH_SIDE + 1].

    The result matches Pillow's `resize` with `Resampling.LANCZOS`, up to rounding, in a third of the time. Like Pillow,
    round the values after each of the two passes. Otherwise, noise in plain areas would determine the bits.
    """
    height, width = gray.shape
    rows = _round(gray @ _lanczos_weights(width, HASH_SIDE + 1))
    return _round(_lanczos_weights(height, HASH_SIDE).T @ rows)


def has_edges(digest: NDArray[np.uint8]) -> bool:
    """Return whether an image has enough edges for its hash, uint8 [HASH_BITS / 8], to identify it."""
    return _MIN_BITS <= int.from_bytes(digest.tobytes(), "big").bit_count() <= HASH_BITS - _MIN_BITS


def hash_thumbnails(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the hashes, uint8 [..., HASH_BITS / 8], for thumbnails, uint8 [..., HASH_SIDE, HASH_SIDE + 1].

    Each bit records whether a pixel is brighter than its left neighbor.
    """
    bits = thumbnails[..., 1:] > thumbnails[..., :-1]
    return np.packbits(bits.reshape(*bits.shape[:-2], HASH_BITS), axis=-1)


def correlate(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the correlations, [N] in -1..1, of N pairs of thumbnails, uint8 [N, HASH_SIDE, HASH_SIDE + 1]."""
    left, right = (_standardize(thumbnails) for thumbnails in (one, other))
    products: NDArray[np.float32] = np.einsum("np,np->n", left, right)
    return products


def _standardize(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = thumbnails.reshape(len(thumbnails), HASH_SIDE * (HASH_SIDE + 1)).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    return pixels


def _round(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round and clip to 0..255. A single OpenCV call takes a fraction of the time of three NumPy calls."""
    rounded: NDArray[np.uint8] = cv2.add(values, 0.0, dtype=cv2.CV_8U)
    return rounded


@lru_cache(maxsize=512)
def _lanczos_weights(size: int, resized: int) -> NDArray[np.float32]:
    """Return the weights, [size, resized], of Pillow's Lanczos filter for resizing `size` pixels to `resized`."""
    scale = size / resized
    centers = (np.arange(resized) + 0.5) * scale
    offsets = (np.arange(size)[:, None] + 0.5 - centers) / max(scale, 1.0)
    weights = np.where(np.abs(offsets) < _LOBES, np.sinc(offsets) * np.sinc(offsets / _LOBES), 0)
    normalized: NDArray[np.float32] = (weights / weights.sum(axis=0)).astype(np.float32)
    return normalized
