"""The OpenCV versions in the lock files decode and resize to the same pixels."""

from __future__ import annotations

import base64
import json
from typing import Any

import cv2
import numpy as np
import pytest

from opencv_pixels import EXACT, RESULTS, SEEDS, resize_pictures
from resnet50_pipeline.imaging.decode import decode_image
from upstream_operators import digest, picture

EXPECTED: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPECTED["decoded"])
def test_every_version_decodes_the_same_pixels(name: str) -> None:
    """The installed OpenCV and `decode_image` return the same pixels as OpenCV 4.11 for each variant of each format."""
    data = base64.b64decode(EXPECTED["decoded"][name]["file"])
    expected = EXPECTED["decoded"][name]["pixels"]
    assert digest(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)) == expected
    assert digest(decode_image(data)) == expected


@pytest.mark.parametrize("name", EXACT)
def test_every_version_resizes_to_the_same_pixels(name: str) -> None:
    """The pixels match OpenCV 4.11, except with bicubic interpolation."""
    assert [digest(pixels) for pixels in resize_pictures(EXACT[name])] == EXPECTED["resized"][name].split()


def weigh_cubic(source: int, target: int) -> np.ndarray:
    """Return the weights [target, source] of OpenCV's bicubic interpolation, with A = -0.75, in float64."""
    positions = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(positions).astype(int)
    weights = np.zeros((target, source))
    for offset in range(-1, 3):
        distance = np.abs(positions - (first + offset))
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
        np.add.at(
            weights,
            (np.arange(target), np.clip(first + offset, 0, source - 1)),
            np.where(distance <= 1, near, far),
        )
    return weights


def test_bicubic_results_differ_by_at_most_one() -> None:
    """Every version is within 1 of the exact result, so two versions differ by at most 1 of 255."""
    for seed, result in zip(SEEDS, resize_pictures(cv2.INTER_CUBIC), strict=True):
        rng = np.random.default_rng(seed)
        pixels = picture(seed)
        top, left = (int(rng.integers(0, side // 2)) for side in pixels.shape[:2])
        given = pixels[top:, left:].astype(float)
        rows = weigh_cubic(given.shape[0], result.shape[0])
        columns = weigh_cubic(given.shape[1], result.shape[1])
        exact = np.einsum("yr,rcb,xc->yxb", rows, given, columns, optimize=True).clip(0, 255)
        assert np.abs(result - exact).max() < 0.75
