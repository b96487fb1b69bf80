"""The measures of an image match their definitions, on real photographs and on plain images."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageFilter, ImageStat

from resnet50_pipeline.imaging.content.difference_hash import compute_difference_hash, make_thumbnail
from resnet50_pipeline.imaging.content.measures import Measures, measure_content, reduce_pixels
from resnet50_pipeline.imaging.content.reduction import reduce_to_gray

PHOTOS = (
    *sorted(Path(sklearn.datasets.__file__).with_name("images").glob("*.jpg")),
    Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg"),
)


def measure_image(image: Image.Image) -> Measures:
    """Measure a Pillow image."""
    return measure_content(reduce_pixels(np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])))


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_scores_are_close_to_those_of_cleanvision(path):
    """The scores of a reduced photograph are close to CleanVision's scores of the full photograph."""
    photo = Image.open(path).convert("RGB")
    found = measure_image(photo)
    red, green, blue = (np.asarray(photo)[..., channel].astype(float) for channel in range(3))
    brightness = np.sqrt(0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2) / 255
    assert found.brightness_p5 == pytest.approx(np.percentile(brightness, 5), abs=0.03)
    assert found.brightness_p99 == pytest.approx(np.percentile(brightness, 99), abs=0.03)
    assert found.entropy == pytest.approx(photo.convert("L").entropy(), abs=0.3)
    ratio = max(photo.size) / 64
    tiny = photo.resize([int(side // ratio) for side in photo.size]).convert("L")
    edges = ImageStat.Stat(tiny.filter(ImageFilter.FIND_EDGES)).stddev[0]
    assert found.sharpness == pytest.approx(edges, rel=0.3)


def test_changes_of_a_photograph_change_its_scores():
    """Darker, brighter and blurred versions of a photograph have the expected scores."""
    photo = Image.open(PHOTOS[0]).convert("RGB")
    original = measure_image(photo)
    dark = measure_image(photo.point(lambda value: value // 8))
    assert dark.brightness_p99 == pytest.approx(original.brightness_p99 / 8, abs=0.01)
    bright = measure_image(photo.point(lambda value: 230 + value // 10))
    assert bright.brightness_p5 > 0.9
    blurred = measure_image(photo.filter(ImageFilter.GaussianBlur(12)))
    assert blurred.sharpness < 0.4 * original.sharpness


@pytest.mark.parametrize(("size", "gray"), [((300, 200), 0), ((1, 1), 255), ((2000, 1), 77)])
def test_plain_images_have_no_hash_and_no_detail(size, gray):
    """Single-color images have no hash, entropy or edges, even in extreme shapes."""
    found = measure_image(Image.new("L", size, gray))
    assert found.difference_hash == ""
    assert (found.entropy, found.sharpness) == (0, 0)
    assert found.brightness_p5 == found.brightness_p99 == pytest.approx(gray / 255, abs=1e-3)


def test_the_hash_is_that_of_the_encoded_image(tmp_path):
    """The scan's hash of a PNG, 36 hexadecimal digits, equals the one that `kedro adopt` computes."""
    photo = Image.open(PHOTOS[1]).convert("RGB")
    photo.save(tmp_path / "photo.png")
    expected = compute_difference_hash((tmp_path / "photo.png").read_bytes())
    assert measure_image(photo).difference_hash == expected.tobytes().hex()
    assert len(expected.tobytes().hex()) == 36


def test_thumbnails_are_those_of_pillow():
    """Resizing a gray photograph gives the same values as Pillow, up to rounding."""
    for path in PHOTOS:
        gray = Image.open(path).convert("L").resize((110, 83))
        expected = np.asarray(gray.resize((13, 12), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(make_thumbnail(np.asarray(gray)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("size", "reduced"), [((127, 90), (127, 90)), ((500, 375), (125, 93)), ((4000, 3), (2000, 1))])
def test_images_are_halved(size, reduced):
    """Images are halved until both sides are below 128 pixels, or one side is a single pixel."""
    width, height = size
    columns = np.arange(width, dtype=np.uint8) % 2 * 8  # 0 and 8 alternate
    found = reduce_to_gray(np.tile(columns[:, None], (height, 1, 3)))
    assert found.shape == (reduced[1], reduced[0])
    assert (found == (columns if size == reduced else 4)).all()


def test_scores_are_finite():
    """No image of any small shape has undefined scores."""
    random = np.random.default_rng(0)
    for height in (1, 2, 3, 13):
        for width in (1, 2, 5, 200):
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            assert all(math.isfinite(score) for score in measure_content(reduce_pixels(pixels))[1:])
