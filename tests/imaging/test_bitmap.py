"""Bitmaps can be read by OpenCV and Pillow, and by this package without copying."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet50_pipeline.imaging.bitmap import encode_bitmap, view_bitmap
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.operators import build_transform


def some_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_all_readers_return_the_same_pixels(height: int, width: int):
    """`view_bitmap`, OpenCV and Pillow return the same pixels for every size."""
    pixels = some_pixels(height, width)
    data = encode_bitmap(pixels)
    viewed = view_bitmap(data)
    np.testing.assert_array_equal(viewed, pixels)
    np.testing.assert_array_equal(decode_image(data), pixels)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)))[:, :, ::-1], pixels)


def test_view_is_read_only():
    """The pixels of a bitmap are a read-only view of its bytes."""
    data = encode_bitmap(some_pixels(7, 5))
    viewed = view_bitmap(data)
    assert viewed.base is not None
    with pytest.raises(ValueError, match="read-only"):
        viewed[0, 0, 0] = 1


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_other_bytes_are_not_viewed(data: bytes):
    """Data with a different header, or with a length that contradicts the header, is not viewed."""
    assert view_bitmap(data) is None
    assert view_bitmap(b"BM" + data) is None
    whole = encode_bitmap(some_pixels(3, 3))
    assert view_bitmap(whole + data[:1] + b"x") is None
    assert view_bitmap(whole[:-1]) is None


def test_bitmap_from_opencv_is_not_viewed():
    """A bitmap from OpenCV starts with the bottom row, so it is decoded instead of viewed."""
    pixels = some_pixels(9, 6)
    data = bytes(cv2.imencode(".bmp", pixels)[1])
    assert view_bitmap(data) is None
    np.testing.assert_array_equal(decode_image(data), pixels)


@pytest.mark.parametrize(
    "augmentation",
    [
        {"RandAugment": {}},
        {"TimmAutoAugment": {"config_str": "rand-m9-mstd0.5-inc1", "interpolation": "bicubic", "img_size": 32}},
        {"ColorJitter": {"brightness": 0.4}},
        {"TrivialAugmentWide": {}},
    ],
)
def test_operators_accept_read_only_pixels(augmentation):
    """Operators produce the same result for read-only and writable pixels, and do not change the bytes."""
    import random

    pixels = some_pixels(40, 50)
    data, png = encode_bitmap(pixels), bytes(cv2.imencode(".png", pixels)[1])
    before = bytes(bytearray(data))
    transform = build_transform(
        [
            {"DecodeImage": {}},
            {"RandCropImage": {"size": 32}},
            {"RandFlipImage": {}},
            augmentation,
            {"NormalizeImage": {}},
        ]
    )
    for seed in range(5):
        np.testing.assert_array_equal(transform(data, random.Random(seed)), transform(png, random.Random(seed)))
    assert data == before
