"""Pixels as a BMP: OpenCV and Pillow open it, and reading it copies nothing."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnet50_pipeline.imaging.bitmap import encode_bitmap, view_bitmap
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.operators import build_transform


def some_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
def test_every_reader_sees_the_same_pixels(height: int, width: int):
    """Ours, OpenCV's and Pillow's, whatever the size; rows are filled up to four bytes and start at the top."""
    pixels = some_pixels(height, width)
    data = encode_bitmap(pixels)
    viewed = view_bitmap(data)
    np.testing.assert_array_equal(viewed, pixels)
    np.testing.assert_array_equal(decode_image(data), pixels)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)))[:, :, ::-1], pixels)


def test_a_view_shares_the_bytes_and_cannot_be_written_to():
    """No copy is made, so nobody may change what the bytes object holds."""
    data = encode_bitmap(some_pixels(7, 5))
    viewed = view_bitmap(data)
    assert viewed.base is not None
    with pytest.raises(ValueError, match="read-only"):
        viewed[0, 0, 0] = 1


@given(st.binary(max_size=200))
def test_other_bytes_are_no_bitmap_of_ours(data: bytes):
    """Whatever begins otherwise, or has another length than its header says, is left to OpenCV."""
    assert view_bitmap(data) is None
    assert view_bitmap(b"BM" + data) is None
    whole = encode_bitmap(some_pixels(3, 3))
    assert view_bitmap(whole + data[:1] + b"x") is None
    assert view_bitmap(whole[:-1]) is None


def test_a_bitmap_of_opencv_is_opencvs():
    """Its rows start at the bottom; it decodes as ever."""
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
def test_operators_work_on_pixels_that_cannot_be_written_to(augmentation):
    """Every operator gives the same for a bitmap as for pixels of its own, and leaves the bytes as they were."""
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
