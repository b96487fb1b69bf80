"""Transforms match PaddleClas bit for bit, and invalid operators are rejected."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.operators import TransformOp, build_transform

NORMALIZE = {
    "NormalizeImage": {"scale": "1.0/255.0", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": ""}
}
DECODE = {"DecodeImage": {"to_rgb": True, "channel_first": False}}


def encode(height: int, width: int, seed: int = 0, suffix: str = ".jpg") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = cv2.GaussianBlur(pixels, (5, 5), 2)
    return bytes(cv2.imencode(suffix, pixels)[1])


def normalized(rgb: np.ndarray) -> np.ndarray:
    """Return pixels after NormalizeImage and ToCHWImage, computed with NumPy."""
    mean = np.array([0.485, 0.456, 0.406]).reshape(1, 1, 3).astype("float32")
    std = np.array([0.229, 0.224, 0.225]).reshape(1, 1, 3).astype("float32")
    return ((rgb.astype("float32") * np.float32(1.0 / 255.0) - mean) / std).transpose(2, 0, 1)


@given(height=st.integers(20, 90), width=st.integers(20, 90), seed=st.integers(0, 99))
@settings(deadline=None)
def test_eval_transform_resizes_crops_and_normalizes(height: int, width: int, seed: int):
    """The result is bit-identical to decoding, then resizing the short side, center-cropping and normalizing."""
    data = encode(height, width, seed)
    transform = build_transform([DECODE, {"ResizeImage": {"resize_short": 36}}, {"CropImage": {"size": 32}}, NORMALIZE])

    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), 1)[:, :, ::-1]
    percent = 36.0 / min(width, height)
    w, h = round(width * percent), round(height * percent)
    rgb = cv2.resize(np.ascontiguousarray(rgb), (w, h), interpolation=cv2.INTER_LINEAR)
    top, left = (h - 32) // 2, (w - 32) // 2
    expected = normalized(rgb[top : top + 32, left : left + 32])

    result = transform(data, None)
    assert result.dtype == np.float32
    assert result.shape == (3, 32, 32)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)


@given(height=st.integers(10, 90), width=st.integers(10, 90), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_train_transform_draws_random_numbers_as_paddleclas(height: int, width: int, seed: int):
    """With the same random numbers, crop and flip are bit-identical to RandCropImage and RandFlipImage."""
    data = encode(height, width)
    transform = build_transform(
        [DECODE, {"RandCropImage": {"size": 24}}, {"RandFlipImage": {"flip_code": 1}}, NORMALIZE]
    )

    draw = random.Random(seed)
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), 1)[:, :, ::-1]
    aspect = draw.uniform(3 / 4, 4 / 3)
    bound = min((float(width) / height) / aspect, (float(height) / width) * aspect)
    area = width * height * draw.uniform(min(0.08, bound), min(1.0, bound))
    w, h = int(math.sqrt(area * aspect)), int(math.sqrt(area / aspect))
    left, top = draw.randint(0, width - w), draw.randint(0, height - h)
    rgb = cv2.resize(np.ascontiguousarray(rgb[top : top + h, left : left + w]), (24, 24))
    if draw.randint(0, 1) == 1:
        rgb = cv2.flip(rgb, 1)

    np.testing.assert_array_equal(transform(data, random.Random(seed)), normalized(rgb))


def test_gray_image_becomes_three_equal_channels():
    """A gray JPEG is decoded to three channels."""
    data = bytes(cv2.imencode(".jpg", np.full((8, 8), 77, np.uint8))[1])
    assert (decode_image(data) == 77).all()
    assert decode_image(data).shape == (8, 8, 3)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"\xff\xd8\xff\xe0 cut"])
def test_bytes_that_are_not_an_image_are_rejected(data: bytes):
    """Bytes that are not an image raise an error instead of returning a placeholder."""
    with pytest.raises(ImageDecodeError):
        decode_image(data)


@pytest.mark.parametrize(
    ("ops", "named"),
    [
        ([DECODE, {"AugMix": {}}, NORMALIZE], "AugMix"),
        ([DECODE, {"RandomErasing": {}}, NORMALIZE], "RandomErasing .*DecodeImage"),
        ([DECODE, {"CropImage": {"size": 8}}, NORMALIZE, {"RandFlipImage": {}}], "RandFlipImage .*NormalizeImage"),
        ([DECODE, {"ResizeImage": {}}, NORMALIZE], "resize_short None .*size None"),
        ([DECODE, {"ResizeImage": {"size": 8, "resize_short": 8}}, NORMALIZE], "resize_short 8 .*size 8"),
        ([DECODE, {"ResizeImage": {"size": 8, "interpolation": "box"}}, NORMALIZE], "box .*cv2"),
        ([DECODE, {"RandCropImage": {"size": 8, "progress_size": [8, 9, 10, 11]}}, NORMALIZE], "progress_size"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "augmix-m5"}}, NORMALIZE], "augmix"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "rand-m9-x3"}}, NORMALIZE], "'x3'"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "rand-m9-inc0"}}, NORMALIZE], "inc0"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "rand-m9.5"}}, NORMALIZE], "rand-m9.5"),
        ([DECODE, NORMALIZE, {"RandomErasing": {"sh": "__import__('os')"}}], "__import__"),
        ([DECODE, {"CropImage": {"size": 8, "padding": 1}}, NORMALIZE], "padding"),
        ([{"CropImage": {"size": 8}}, NORMALIZE], "DecodeImage"),
        ([DECODE, {"CropImage": {"size": 8}}], "NormalizeImage"),
        ([DECODE, NORMALIZE, {"CropImage": {"size": 8}}, NORMALIZE], "CropImage .*NormalizeImage"),
        ([DECODE, {"CropImage": {"size": 8}, "RandFlipImage": {}}, NORMALIZE], "one key"),
        ([{"DecodeImage": {"to_rgb": False}}, NORMALIZE], "to_rgb"),
        ([DECODE, {"NormalizeImage": {"scale": "__import__('os').system('true')"}}], "scale"),
    ],
)
def test_unsupported_operators_are_rejected(ops: list, named: str):
    """The error for an invalid operator names the operator, argument or value, and no value is run as code."""
    with pytest.raises(TrainingConfigError, match=named):
        build_transform(ops)


def test_random_operator_requires_random_numbers():
    """A random operator never uses the global random state."""
    transform = build_transform([DECODE, {"RandCropImage": {"size": 8}}, NORMALIZE])
    with pytest.raises(TrainingConfigError, match="RandCropImage"):
        transform(encode(20, 20), None)


def test_operator_mapping_round_trips():
    """Parsing the YAML form of an operator returns an equal operator."""
    op = TransformOp.model_validate({"RandCropImage": {"size": 24, "scale": [0.5, 1.0]}})
    assert TransformOp.model_validate(op.as_mapping()) == op


def test_elongated_image_is_rejected_before_resizing():
    """A 6 KB image of 60000 x 1 pixels would become 4 gigapixels when its short side is resized to 256."""
    data = bytes(cv2.imencode(".jpg", np.zeros((1, 60000), np.uint8))[1])
    resize, crop = {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}
    transform = build_transform([DECODE, resize, crop, NORMALIZE])
    with pytest.raises(ImageDecodeError, match="60000 x 1"):
        transform(data, None)
