"""However few steps an image takes, its values are those of PaddleClas' operators, bit for bit."""

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
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.imaging.region import can_decode_regions
from resnet50_pipeline.imaging.turbo import _simplejpeg
from upstream_operators import Draws, load_upstream

HOME = os.environ.get("PADDLECLAS_HOME")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PILLOW_SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}

sides = st.integers(17, 120)
samplings = st.sampled_from([*PILLOW_SAMPLINGS, *(["4:4:0", "4:1:1"] if _simplejpeg() else [])])


def encode(height: int, width: int, seed: int, sampling: str = "4:2:0", progressive: bool = False) -> bytes:
    """Return a JPEG of shades, edges and noise, colours sampled so."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    shades = np.stack([rows * 5, columns * 3, (rows // 9 + columns // 7) % 2 * 200], axis=-1)
    pixels = ((shades + draw.integers(0, 60, shades.shape)) % 256).astype(np.uint8)
    if sampling in PILLOW_SAMPLINGS:
        out = io.BytesIO()
        number = PILLOW_SAMPLINGS[sampling]
        Image.fromarray(pixels).save(out, "JPEG", quality=92, subsampling=number, progressive=progressive)
        return out.getvalue()
    return importlib.import_module("simplejpeg").encode_jpeg(
        pixels, quality=92, colorsubsampling=sampling.replace(":", "")
    )


def transform_ops(size: int, interpolation: str | None = None) -> list[dict[str, Any]]:
    crop: dict[str, Any] = {"size": size} if interpolation is None else {"size": size, "interpolation": interpolation}
    return [
        {"DecodeImage": {"to_rgb": True, "channel_first": False}},
        {"RandCropImage": crop},
        {"RandFlipImage": {"flip_code": 1}},
        {"NormalizeImage": {"scale": "1.0/255.0", "mean": list(MEAN), "std": list(STD), "order": ""}},
    ]


def plainly(data: bytes, size: int, draw: random.Random) -> np.ndarray:
    """Do what the operators say, step by step."""
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
def test_train_images_are_those_of_the_plain_operators(height: int, width: int, size: int, seed: int):
    """Any picture, crop and flip has the float32 values of the operators written plainly."""
    data = encode(height, width, seed)
    found = build_transform(transform_ops(size))(data, random.Random(seed))
    expected = plainly(data, size, random.Random(seed))
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(HOME is None, reason="needs a checkout of PaddleClas: PADDLECLAS_HOME=<checkout>")
def test_train_and_eval_images_are_upstreams():
    """Any picture has the float32 values that PaddleClas' own operators give, in training and evaluation."""
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
def test_bytes_say_what_float32_says(height: int, width: int, size: int, seed: int):
    """uint8 pixels, looked up in the normalisation's table, are the float32 ones."""
    data, transform, draw = encode(height, width, seed), build_transform(transform_ops(size)), random.Random(seed)
    pixels = np.empty((3, size, size), dtype=np.uint8)
    transform.write(transform.see(data, draw), pixels)
    looked_up = np.stack([transform.normalize.table[:, channel][pixels[channel]] for channel in range(3)])
    np.testing.assert_array_equal(looked_up, transform(data, random.Random(seed)))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_of_different_sizes_are_no_batch(dtype: type):
    """Where the operators leave them so, that is said; the place does not keep what stood there before."""
    ops = [transform_ops(1)[0], {"ResizeImage": {"resize_short": 24}}, transform_ops(1)[-1]]
    transform, into = build_transform(ops), np.zeros((3, 24, 24), dtype=dtype)
    transform.write(transform.see(encode(40, 40, 1), None), into)
    with pytest.raises(TrainingConfigError, match="different sizes, 24 x 30 after 24 x 24, and a batch has one"):
        transform.write(transform.see(encode(40, 50, 1), None), into)


@pytest.mark.skipif(_simplejpeg() is None, reason="needs simplejpeg")
@given(height=sides, width=sides, seed=st.integers(0, 2**32), sampling=samplings, progressive=st.booleans())
@settings(deadline=None)
def test_simplejpeg_decodes_to_opencvs_pixels(height: int, width: int, seed: int, sampling: str, progressive: bool):
    """Whichever way colours are sampled, both decoders give the same pixels."""
    data = encode(height, width, seed, sampling, progressive)
    np.testing.assert_array_equal(decode_image(data), cv2.imdecode(np.frombuffer(data, dtype="uint8"), 1))


@pytest.mark.skipif(not can_decode_regions(), reason="needs nvidia-nvimgcodec-cu12")
@given(
    picture=st.tuples(sides, sides, st.integers(0, 2**32), samplings, st.booleans()),
    size=st.integers(1, 64),
    seed=st.integers(0, 2**32),
    interpolation=st.sampled_from([None, "random", "bicubic"]),
)
@example(picture=(375, 500, 1, "4:2:0", False), size=224, seed=1, interpolation=None)
@settings(deadline=None)
def test_a_region_is_what_the_whole_picture_shows_there(
    picture: tuple[int, int, int, str, bool], size: int, seed: int, interpolation: str | None
):
    """Decoding a crop's region only changes no bit of the result, at its border either."""
    data = encode(*picture)
    ops = transform_ops(size, interpolation)
    found = build_transform(ops, decodes_region=True)(data, random.Random(seed))
    np.testing.assert_array_equal(found, build_transform(ops)(data, random.Random(seed)))


@pytest.mark.parametrize("kind", ["grey", "turned", "png", "cmyk"])
def test_other_pictures_are_decoded_whole(kind: str):
    """A picture that no region is decoded of is cropped as ever: grey, CMYK, turned by EXIF, and what is no JPEG."""
    pixels = cv2.imdecode(np.frombuffer(encode(90, 60, 3), dtype="uint8"), 1)
    image, out = Image.fromarray(pixels), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    {
        "grey": lambda: image.convert("L").save(out, "JPEG"),
        "turned": lambda: image.save(out, "JPEG", exif=exif),
        "png": lambda: image.save(out, "PNG"),
        "cmyk": lambda: image.convert("CMYK").save(out, "JPEG"),
    }[kind]()
    for seed in range(20):
        found = build_transform(transform_ops(32), decodes_region=True)(out.getvalue(), random.Random(seed))
        np.testing.assert_array_equal(found, plainly(out.getvalue(), 32, random.Random(seed)))


def test_without_the_binding_pictures_are_decoded_whole(monkeypatch: pytest.MonkeyPatch):
    """Where nvImageCodec is not installed the result is the same."""
    data = encode(90, 60, 3)
    monkeypatch.setattr("resnet50_pipeline.imaging.region._codec", lambda: None)
    found = build_transform(transform_ops(32), decodes_region=True)(data, random.Random(1))
    np.testing.assert_array_equal(found, plainly(data, 32, random.Random(1)))


@given(
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_damaged_pictures_are_decoded_or_refused(damage: list[tuple[float, int]], seed: int):
    """Whatever bytes of a JPEG are wrong, a region of it is decoded, or it is refused as an image."""
    data = bytearray(encode(90, 60, seed))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        found = build_transform(transform_ops(32), decodes_region=True)(bytes(data), random.Random(seed))
    except ImageDecodeError:
        return
    assert found.shape == (3, 32, 32)
