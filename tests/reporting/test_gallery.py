"""The thumbnails from `reporting.gallery` are small and faithful."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pandas as pd

from resnet50_pipeline.reporting.gallery import THUMBNAIL_SIDE, make_gallery


def _thumbnail(root, pixels, name="image.JPEG"):
    """Write an image, and return its gallery entry and the thumbnail's pixels."""
    cv2.imwrite(str(root / name), pixels)
    (item,) = make_gallery(pd.DataFrame({"path": [name]}), root)
    decoded = np.frombuffer(base64.b64decode(item.data_uri.partition(",")[2]), np.uint8)
    return item, cv2.imdecode(decoded, cv2.IMREAD_COLOR)


def _smooth(height, width):
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    return np.stack([ramp, ramp[::-1], np.full_like(ramp, 90)], axis=2).astype(np.uint8)


def test_a_photo_becomes_a_small_jpeg_with_the_same_shape(tmp_path):
    """The longest side is 168 pixels, and the aspect ratio and colors are preserved."""
    item, thumbnail = _thumbnail(tmp_path, _smooth(300, 500))

    assert item.data_uri.startswith("data:image/jpeg;base64,")
    assert not item.is_tiny
    assert thumbnail.shape == (round(300 * THUMBNAIL_SIDE / 500), THUMBNAIL_SIDE, 3)
    expected = cv2.resize(_smooth(300, 500), thumbnail.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail.astype(int) - expected).mean() < 5


def test_a_tiny_image_keeps_all_pixels(tmp_path):
    """An image of 28 x 28 pixels is neither resized nor lossily compressed."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)

    item, thumbnail = _thumbnail(tmp_path, pixels, name="digit.png")

    assert item.data_uri.startswith("data:image/png;base64,")
    assert item.is_tiny
    np.testing.assert_array_equal(thumbnail, pixels)


def test_a_very_long_image_keeps_its_shape(tmp_path):
    """The thumbnail of the longest image that is decoded, 500 x 5 pixels, is one or two pixels high."""
    _, thumbnail = _thumbnail(tmp_path, _smooth(5, 500))

    assert thumbnail.shape in [(height, THUMBNAIL_SIDE, 3) for height in (1, 2)]
