"""Optimized transforms are bit-identical to PaddleClas' operators."""

from __future__ import annotations

import importlib
import io
import os
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.imaging.region import can_decode_regions
from upstream_operators import Draws, load_upstream

HOME = os.environ.get("PADDLECLAS_HOME")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PILLOW_SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}

sides = st.integers(17, 120)
samplings = st.sampled_from([*PILLOW_SAMPLINGS, "4:4:0", "4:1:1"])


def encode(height: int, width: int, seed: int, sampling: str = "4:2:0", progressive: bool = False) -> bytes:
    """Return a JPEG of gradients, edges and noise with the given chroma subsampling."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    gradients = np.stack([rows * 5, columns * 3, (rows // 9 + columns // 7) % 2 * 200], axis=-1)
    pixels = ((gradients + draw.integers(0, 60, gradients.shape)) % 256).astype(np.uint8)
    if sampling in PILLOW_SAMPLINGS:
        out = io.BytesIO()
        number = PILLOW_SAMPLINGS[sampling]
        Image.fromarray(pixels).save(out, "JPEG", quality=92, subsampling=number, progressive=progressive)
        return out.getvalue()
    return simplejpeg.encode_jpeg(pixels, quality=92, colorsubsampling=sampling.replace(":", ""))


def transform_ops(size: int, interpolation: str | None = None) -> list[dict[str, Any]]:
    crop: dict[str, Any] = {"size": size} if interpolation is None else {"size": size, "interpolation": interpolation}
    return [
        {"DecodeImage": {"to_rgb": True, "channel_first": False}},
        {"RandCropImage": crop},
        {"RandFlipImage": {"flip_code": 1}},
        {"NormalizeImage": {"scale": "1.0/255.0", "mean": list(MEAN), "std": list(STD), "order": ""}},
    ]


def transform_window(ops: list[dict[str, Any]], data: bytes, seed: int) -> np.ndarray:
    """Apply the operators, decoding only the window of the crop."""
    transform, rng = build_transform(ops, decodes_region=True), random.Random(seed)
    pixels = transform.apply(data, rng, is_intact=True)
    result = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    transform.write(pixels, result, rng)
    return result


def apply_reference(data: bytes, size: int, draw: random.Random) -> np.ndarray:
    """Apply the operators of `transform_ops` with OpenCV and NumPy."""
    pixels = cv2.imdecode(np.frombuffer(data, dtype="uint8"), 1)[:, :, ::-1]
    height, width = pixels.shape[:2]
    aspect = draw.uniform(3 / 4, 4 / 3)
    bound = min((float(width) / height) / aspect, (float(height) / width) * aspect)
    area = width * height * draw.uniform(min(0.08, bound), min(1.0, bound))
    crop_width, crop_height = max(1, int((area * aspect) ** 0.5)), max(1, int((area / aspect) ** 0.5))
    left, top = draw.randint(0, width - crop_width), draw.randint(0, height - crop_height)
    pixels = cv2.resize(pixels[top : top + crop_height, left : left + crop_width], (size, size))
    if draw.randint(0, 1):
        pixels = cv2.flip(pixels, 1)
    mean, std = (np.array(values).reshape(1, 1, 3).astype("float32") for values in (MEAN, STD))
    return ((pixels.astype("float32") * np.float32(1.0 / 255.0) - mean) / std).transpose(2, 0, 1)


@given(height=sides, width=sides, size=st.integers(1, 64), seed=st.integers(0, 2**32))
@example(height=375, width=500, size=224, seed=1)
@settings(deadline=None)
def test_train_transform_matches_the_reference(height: int, width: int, size: int, seed: int):
    """The fast path returns bit-identical float32 values for all images, crops and flips."""
    data = encode(height, width, seed)
    found = build_transform(transform_ops(size))(data, random.Random(seed))
    expected = apply_reference(data, size, random.Random(seed))
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(HOME is None, reason="needs a checkout of PaddleClas: PADDLECLAS_HOME=<checkout>")
def test_train_and_eval_transforms_match_upstream():
    """In training and evaluation, the float32 values are bit-identical to those of PaddleClas' operators."""
    load_upstream(Path(HOME or ""))
    module = importlib.import_module("upstream_ops.operators")

    def run_upstream(ops: list[dict[str, Any]], data: bytes, seed: int) -> np.ndarray:
        module.random = Draws(random.Random(seed))
        result: Any = data
        for op in ops:
            ((name, arguments),) = op.items()
            result = getattr(module, name)(**arguments)(result)
        return result.transpose((2, 0, 1))

    @given(height=sides, width=sides, size=st.integers(8, 64), seed=st.integers(0, 2**32))
    @settings(deadline=None)
    def compare(height: int, width: int, size: int, seed: int) -> None:
        data = encode(height, width, seed)
        train, (decode, *_, normalize) = transform_ops(size), transform_ops(size)
        evaluation = [decode, {"ResizeImage": {"resize_short": size + 8}}, {"CropImage": {"size": size}}, normalize]
        for ops in (train, evaluation):
            found = build_transform(ops)(data, random.Random(seed))
            np.testing.assert_array_equal(found, run_upstream(ops, data, seed))

    compare()


@given(height=sides, width=sides, size=st.integers(1, 64), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_uint8_pixels_normalize_to_the_float32_result(height: int, width: int, size: int, seed: int):
    """Looking up the uint8 pixels in the normalization table gives the float32 values."""
    data, transform, draw = encode(height, width, seed), build_transform(transform_ops(size)), random.Random(seed)
    pixels = np.empty((3, size, size), dtype=np.uint8)
    transform.write(transform.apply(data, draw), pixels)
    looked_up = np.stack([transform.normalize.table[:, channel][pixels[channel]] for channel in range(3)])
    np.testing.assert_array_equal(looked_up, transform(data, random.Random(seed)))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_batch_of_different_sizes_is_rejected(dtype: type):
    """If an image has the wrong size for its batch, the error contains both sizes."""
    ops = [transform_ops(1)[0], {"ResizeImage": {"resize_short": 24}}, transform_ops(1)[-1]]
    transform, into = build_transform(ops), np.zeros((3, 24, 24), dtype=dtype)
    transform.write(transform.apply(encode(40, 40, 1), None), into)
    with pytest.raises(TrainingConfigError, match=r"24 x 30 .*24 x 24"):
        transform.write(transform.apply(encode(40, 50, 1), None), into)


@given(height=sides, width=sides, seed=st.integers(0, 2**32), sampling=samplings, progressive=st.booleans())
@settings(deadline=None)
def test_simplejpeg_decodes_to_opencvs_pixels(height: int, width: int, seed: int, sampling: str, progressive: bool):
    """OpenCV and simplejpeg return the same pixels for all chroma subsamplings."""
    data = encode(height, width, seed, sampling, progressive)
    np.testing.assert_array_equal(decode_image(data), cv2.imdecode(np.frombuffer(data, dtype="uint8"), 1))


@pytest.mark.skipif(not can_decode_regions(), reason="needs nvidia-nvimgcodec-cu12")
@given(
    image=st.tuples(sides, sides, st.integers(0, 2**32), samplings, st.booleans()),
    size=st.integers(1, 64),
    seed=st.integers(0, 2**32),
    interpolation=st.sampled_from([None, "random", "bicubic"]),
)
@example(image=(375, 500, 1, "4:2:0", False), size=224, seed=1, interpolation=None)
@settings(deadline=None)
def test_decoded_region_matches_a_crop_of_the_whole_image(
    image: tuple[int, int, int, str, bool], size: int, seed: int, interpolation: str | None
):
    """Decoding only the window of a crop gives bit-identical pixels, including the border."""
    data = encode(*image)
    ops = transform_ops(size, interpolation)
    found = transform_window(ops, data, seed)
    np.testing.assert_array_equal(found, build_transform(ops)(data, random.Random(seed)))


@pytest.mark.parametrize("kind", ["gray", "rotated", "png", "cmyk"])
def test_other_images_are_decoded_whole(kind: str):
    """Gray, CMYK, EXIF-rotated and PNG images, which are always decoded whole, give the same result."""
    pixels = cv2.imdecode(np.frombuffer(encode(90, 60, 3), dtype="uint8"), 1)
    image, out = Image.fromarray(pixels), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    {
        "gray": lambda: image.convert("L").save(out, "JPEG"),
        "rotated": lambda: image.save(out, "JPEG", exif=exif),
        "png": lambda: image.save(out, "PNG"),
        "cmyk": lambda: image.convert("CMYK").save(out, "JPEG"),
    }[kind]()
    for seed in range(20):
        found = transform_window(transform_ops(32), out.getvalue(), seed)
        np.testing.assert_array_equal(found, apply_reference(out.getvalue(), 32, random.Random(seed)))


def test_images_are_decoded_whole_without_nvimagecodec(monkeypatch: pytest.MonkeyPatch):
    """Without nvImageCodec, images are decoded whole and give the same result."""
    data = encode(90, 60, 3)
    monkeypatch.setattr("resnet50_pipeline.imaging.region._codec", lambda: None)
    found = transform_window(transform_ops(32), data, 1)
    np.testing.assert_array_equal(found, apply_reference(data, 32, random.Random(1)))


@given(
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_damaged_images_are_decoded_or_rejected(damage: list[tuple[float, int]], seed: int):
    """For any damaged bytes, a region is decoded or ImageDecodeError is raised."""
    data = bytearray(encode(90, 60, seed))
    for fraction, value in damage:
        data[int(fraction * len(data))] = value
    try:
        found = build_transform(transform_ops(32), decodes_region=True)(bytes(data), random.Random(seed))
    except ImageDecodeError:
        return
    assert found.shape == (3, 32, 32)
