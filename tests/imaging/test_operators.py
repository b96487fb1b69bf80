"""The preprocessing gives PaddleClas' values bit for bit, and refuses what it does not know."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
import pytest
from hypothesis import given
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
    """The formula of NormalizeImage and ToCHWImage, written plainly."""
    mean = np.array([0.485, 0.456, 0.406]).reshape(1, 1, 3).astype("float32")
    std = np.array([0.229, 0.224, 0.225]).reshape(1, 1, 3).astype("float32")
    return ((rgb.astype("float32") * np.float32(1.0 / 255.0) - mean) / std).transpose(2, 0, 1)


@given(height=st.integers(20, 90), width=st.integers(20, 90), seed=st.integers(0, 99))
def test_eval_transform_is_resize_crop_normalise(height: int, width: int, seed: int):
    """The eval transform equals decode → RGB → resize short side → centre crop → normalise, bit for bit."""
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
def test_train_transform_draws_as_paddleclas_does(height: int, width: int, seed: int):
    """From the same random numbers, crop and flip are those of RandCropImage and RandFlipImage, bit for bit."""
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


def test_grey_image_becomes_three_equal_channels():
    """A grey JPEG decodes to three channels."""
    data = bytes(cv2.imencode(".jpg", np.full((8, 8), 77, np.uint8))[1])
    assert (decode_image(data) == 77).all()
    assert decode_image(data).shape == (8, 8, 3)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"\xff\xd8\xff\xe0 cut"])
def test_bytes_without_an_image_are_refused(data: bytes):
    """What is no image raises ImageDecodeError that says what was found, never a placeholder."""
    with pytest.raises(ImageDecodeError, match=r"decode|is empty, 0 bytes"):
        decode_image(data)


@pytest.mark.parametrize(
    ("ops", "named"),
    [
        ([DECODE, {"AugMix": {}}, NORMALIZE], "AugMix is not supported"),
        ([DECODE, {"RandomErasing": {}}, NORMALIZE], "RandomErasing cannot stand between"),
        ([DECODE, {"CropImage": {"size": 8}}, NORMALIZE, {"RandFlipImage": {}}], "RandFlipImage cannot stand behind"),
        ([DECODE, {"ResizeImage": {}}, NORMALIZE], "either resize_short or size"),
        ([DECODE, {"ResizeImage": {"size": 8, "resize_short": 8}}, NORMALIZE], "either resize_short or size"),
        ([DECODE, {"ResizeImage": {"size": 8, "interpolation": "box"}}, NORMALIZE], "cv2 has no interpolation box"),
        ([DECODE, {"RandCropImage": {"size": 8, "progress_size": [8, 9, 10, 11]}}, NORMALIZE], "progress_size"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "augmix-m5"}}, NORMALIZE], "augmix"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "rand-m9-x3"}}, NORMALIZE], "'x3' is none of"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "rand-m9-inc0"}}, NORMALIZE], "leave inc out"),
        ([DECODE, {"TimmAutoAugment": {"config_str": "rand-m9.5"}}, NORMALIZE], "whole numbers"),
        ([DECODE, NORMALIZE, {"RandomErasing": {"sh": "__import__('os')"}}], "neither a number"),
        ([DECODE, {"CropImage": {"size": 8, "padding": 1}}, NORMALIZE], "padding"),
        ([{"CropImage": {"size": 8}}, NORMALIZE], "DecodeImage"),
        ([DECODE, {"CropImage": {"size": 8}}], "NormalizeImage"),
        ([DECODE, NORMALIZE, {"CropImage": {"size": 8}}, NORMALIZE], "CropImage cannot stand behind NormalizeImage"),
        ([DECODE, {"CropImage": {"size": 8}, "RandFlipImage": {}}, NORMALIZE], "one key"),
        ([{"DecodeImage": {"to_rgb": False}}, NORMALIZE], "to_rgb"),
        ([DECODE, {"NormalizeImage": {"scale": "__import__('os').system('true')"}}], "scale"),
    ],
)
def test_unsupported_operators_are_named(ops: list, named: str):
    """An operator, argument or order that is not supported is refused by name, and no value is evaluated."""
    with pytest.raises(TrainingConfigError, match=named):
        build_transform(ops)


def test_random_operator_without_random_numbers_is_refused():
    """A random operator never falls back to hidden global randomness."""
    transform = build_transform([DECODE, {"RandCropImage": {"size": 8}}, NORMALIZE])
    with pytest.raises(TrainingConfigError, match="RandCropImage"):
        transform(encode(20, 20), None)


def test_operator_mapping_round_trips():
    """The YAML form of an operator reads back as the same operator."""
    op = TransformOp.model_validate({"RandCropImage": {"size": 24, "scale": [0.5, 1.0]}})
    assert TransformOp.model_validate(op.as_mapping()) == op


def test_elongated_image_is_refused_before_memory_is_taken():
    """60000 x 1 pixels, 6 KB, would become 4 gigapixels when its short side is scaled to 256."""
    data = bytes(cv2.imencode(".jpg", np.zeros((1, 60000), np.uint8))[1])
    resize, crop = {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}
    transform = build_transform([DECODE, resize, crop, NORMALIZE])
    with pytest.raises(ImageDecodeError, match="60000 x 1"):
        transform(data, None)
