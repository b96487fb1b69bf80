"""Variants of a photograph have nearly the same difference hash; different photographs do not."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from resnet50_pipeline.imaging.content.difference_hash import (
    HASH_BITS,
    HASH_SIDE,
    MAX_DISTANCE,
    compute_difference_hash,
    correlate,
)
from resnet50_pipeline.imaging.decode import decode_image, decode_reduced

PHOTOS = (
    *sorted(Path(sklearn.datasets.__file__).with_name("images").glob("*.jpg")),
    Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg"),
)


def encode(image: Image.Image, kind: str = "JPEG", quality: int = 95, **options: object) -> bytes:
    """Return an encoded image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality, **options)
    return buffer.getvalue()


def distance(one: bytes, other: bytes) -> int:
    """Return the number of differing bits."""
    hashes = [compute_difference_hash(data) for data in (one, other)]
    assert all(found is not None for found in hashes)
    return int(np.unpackbits(np.bitwise_xor(*hashes)).sum())


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_variants_are_near(path):
    """Re-encoding, resizing, and changing the brightness by 20% change at most `MAX_DISTANCE` bits.

    The photograph is darkened first, because overexposed areas lose their edges.
    """
    photo = Image.open(path).convert("RGB").point(lambda value: value * 5 // 6)
    original, (width, height) = encode(photo), photo.size
    for quality in (30, 50, 95):
        assert distance(original, encode(photo, quality=quality)) <= MAX_DISTANCE
    for factor in (0.5, 0.75, 2):
        resized = photo.resize((round(width * factor), round(height * factor)))
        assert distance(original, encode(resized)) <= MAX_DISTANCE
        assert distance(original, encode(resized, "PNG")) <= MAX_DISTANCE
    for factor in (0.8, 1.2):
        brighter = photo.point(lambda value, factor=factor: round(value * factor))
        assert distance(original, encode(brighter)) <= MAX_DISTANCE


def test_other_photographs_and_crops_are_far():
    """Different photographs differ in many bits, and so do the quarters of a photograph."""
    photos = [Image.open(path).convert("RGB") for path in PHOTOS]
    width, height = photos[0].size
    boxes = [(x, y, x + width // 2, y + height // 2) for x in (0, width // 2) for y in (0, height // 2)]
    images = [encode(image) for image in (*photos, *(photos[0].crop(box) for box in boxes))]
    found = [distance(one, other) for at, one in enumerate(images) for other in images[:at]]
    assert min(found) > 2 * MAX_DISTANCE


def test_the_definition_is_that_of_imagehash():
    """Each bit records whether a pixel of the reduced gray image is brighter than its left neighbor, row by row."""
    side = int(HASH_BITS**0.5)
    for path in PHOTOS:
        photo = Image.open(path).convert("RGB")
        # Larger images are first halved, which changes a few bits.
        for image, most in ((photo.resize((127, 90)), 1), (photo, 8)):
            gray = np.asarray(image.convert("L").resize((side + 1, side), Image.Resampling.LANCZOS))
            expected = np.packbits((gray[:, 1:] > gray[:, :-1]).flatten())
            found = compute_difference_hash(encode(image, "PNG"))
            assert np.unpackbits(found ^ expected).sum() <= most


def test_an_image_without_edges_has_no_hash():
    """Plain or smoothly shaded images, which would all have similar hashes, and damaged files have no hash."""
    plain = Image.new("RGB", (80, 60), (200, 30, 30))
    ramp = Image.fromarray(np.tile(np.arange(0, 240, 3, dtype=np.uint8), (60, 1)))
    for data in (encode(plain, "PNG"), encode(ramp, "PNG"), encode(Image.open(PHOTOS[0]))[:5000], b"text"):
        assert compute_difference_hash(data) is None


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_reduced_jpeg_matches_the_full_image(mode):
    """A reduced JPEG is upright and keeps at least the requested side length; 0 keeps the full size."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated clockwise
    data = encode(Image.open(PHOTOS[0]).convert(mode), exif=exif)
    full, reduced = decode_image(data), decode_reduced(data, 64)
    assert np.array_equal(decode_reduced(data, 0), full)
    assert 64 <= min(reduced.shape[:2]) < 128 < min(full.shape[:2])
    width = round(reduced.shape[0] * full.shape[1] / full.shape[0])
    assert abs(reduced.shape[1] - width) <= 1
    shrunk = np.asarray(Image.fromarray(full).resize(reduced.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(shrunk - reduced).mean() < 4


def test_correlations_of_no_pairs_are_empty():
    """A search that finds no candidates compares no thumbnails."""
    nothing = np.zeros((0, HASH_SIDE, HASH_SIDE + 1), np.uint8)
    assert correlate(nothing, nothing).shape == (0,)
