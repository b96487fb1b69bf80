"""Corruptions get stronger with their severity, and depend only on the name of the image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from resnet50_pipeline.imaging.corruptions import blur, digital
from resnet50_pipeline.imaging.corruptions.base import make_plasma
from resnet50_pipeline.imaging.corruptions.corrupt import _FUNCTIONS, corrupt
from resnet50_pipeline.imaging.corruptions.names import CATEGORIES, CATEGORY_OF, CORRUPTIONS, NOTES, SEVERITIES

SIZES = [(224, 224), (28, 28), (32, 48), (9, 5), (1, 1)]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(load_sample_image("flower.jpg")[100:324, 200:424])


def mean_change(photo: np.ndarray, corruption: str, severity: int) -> float:
    """Return the mean absolute difference over several random draws, which are the same for all severities."""
    copies = [_FUNCTIONS[corruption](photo, severity, np.random.default_rng(draw)) for draw in range(6)]
    return float(np.mean([np.abs(copy.astype(int) - photo).mean() for copy in copies]))


def test_the_names_are_those_of_the_benchmark():
    """There are 15 corruptions in four categories."""
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 15
    assert {name: len(names) for name, names in CATEGORIES.items()} == {
        "noise": 3,
        "blur": 4,
        "weather": 4,
        "digital": 4,
    }
    assert set(_FUNCTIONS) == set(CORRUPTIONS) == set(CATEGORY_OF)
    assert set(NOTES) == {"frost"}


# In the benchmark, the first two severities of the elastic transform move the image, and the others distort parts of
# it. A higher severity of fog is either denser or more irregular. Frost has a test of its own.
@pytest.mark.parametrize(
    ("corruption", "severities"),
    [
        *((name, SEVERITIES) for name in CORRUPTIONS if name not in ("elastic_transform", "fog", "frost")),
        ("elastic_transform", (1, 2)),
        ("elastic_transform", (3, 4, 5)),
        ("fog", (1, 2, 4)),
    ],
)
def test_higher_severities_change_more(photo, corruption, severities):
    """The mean absolute difference increases with severity."""
    changes = [mean_change(photo, corruption, severity) for severity in severities]
    assert changes == sorted(changes)
    assert changes[0] > 1
    assert len(set(changes)) == len(changes)


def test_frost_hides_more_of_the_image(photo):
    """The correlation with the image decreases with severity. Frost is bright, so a difference would not show this."""
    correlations = [
        np.mean(
            [
                np.corrcoef(_FUNCTIONS["frost"](photo, severity, np.random.default_rng(draw)).ravel(), photo.ravel())
                for draw in range(6)
            ],
            axis=0,
        )[0, 1]
        for severity in SEVERITIES
    ]
    assert all(stronger < weaker - 0.001 for weaker, stronger in itertools.pairwise(correlations))
    assert correlations[0] < 0.99


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_copies_depend_only_on_their_name(photo, corruption, size):
    """Every size works, the input stays unchanged, and only random corruptions depend on the name of the image."""
    image = np.ascontiguousarray(photo[: size[0], : size[1]])
    before = image.copy()
    for severity in SEVERITIES:
        first, again, other = (corrupt(image, corruption, severity, name) for name in ("a", "a", "b"))
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        assert first.flags.c_contiguous
        assert np.array_equal(first, again)
        if size == (224, 224):
            fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
            assert np.array_equal(first, other) == (corruption in fixed)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("corruption", [name for name in CORRUPTIONS if name not in CATEGORIES["noise"]])
def test_gray_images_stay_nearly_gray(photo, corruption):
    """Only noise and the tint of ice add color to a gray image."""
    gray = np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    copy = corrupt(gray, corruption, 5, "a").astype(int)
    assert np.ptp(copy, axis=2).max() <= (40 if corruption == "frost" else 3)


@pytest.mark.parametrize(("corruption", "share"), [("gaussian_noise", 0.38), ("impulse_noise", 0.27)])
def test_noise_has_the_strength_of_the_benchmark(corruption, share):
    """The deviation of Gaussian noise and the fraction of changed values match the paper's code."""
    gray = np.full((224, 224, 3), 127, dtype=np.uint8)
    copy = corrupt(gray, corruption, 5, "a").astype(float)
    if corruption == "impulse_noise":
        assert (copy != 127).mean() == pytest.approx(share, abs=0.01)
        assert set(np.unique(copy)) == {0, 127, 255}
    else:
        # Half of a normal distribution that is clipped at 0 and 255.
        assert np.percentile(copy, 84.13) == pytest.approx(127 + 255 * share, abs=2)


def test_lengths_scale_with_the_image():
    """A radius of 10 pixels in a 224-pixel image becomes 5 pixels at 112, and less than one pixel in tiny images."""
    point = np.zeros((112, 112, 3), dtype=np.uint8)
    point[56, 56] = 255
    for side, radius in ((112, 5.0), (56, 2.5)):
        disk = blur._make_disk(10 * side / 224, 0.5 * side / 224)
        assert disk.sum() == pytest.approx(1, abs=1e-5)
        assert 1 / disk.max() == pytest.approx(np.pi * radius**2, rel=0.1)
    assert np.array_equal(corrupt(point[:9, :9], "defocus_blur", 1, "a"), point[:9, :9])


def test_glass_exchanges_close_pixels():
    """Every pixel is kept, and moves no farther than all its swaps combined."""
    order = blur._shuffle_locally(40, 30, reach=2, rounds=1, rng=np.random.default_rng(0))
    assert sorted(order) == list(range(1200))
    moved = np.abs(np.array(np.divmod(order, 30)) - np.array(np.divmod(np.arange(1200), 30)))
    assert 0.5 < moved.mean() < 3
    assert (order != np.arange(1200)).mean() > 0.5


def test_the_blur_matrix_keeps_constants_and_is_a_gaussian():
    """Each row adds up to 1, and far from the edges, a row is a Gaussian."""
    matrix = digital._blur_matrix(101, 4.0)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    offsets = np.arange(101) - 50
    expected = np.exp(-(offsets**2) / 32) * (np.abs(offsets) <= 12)
    assert np.allclose(matrix[50], expected / expected.sum(), atol=1e-6)
    assert np.allclose(digital._blur_matrix(5, 40.0).sum(axis=1), 1, atol=1e-5)


def test_plasma_fills_its_range_and_gets_smoother():
    """The values are in 0..1, and a faster decay makes neighbors more similar."""
    rough, smooth = (make_plasma(64, 64, decay, np.random.default_rng(1)) for decay in (1.4, 3.0))
    assert rough.min() == smooth.min() == 0
    assert rough.max() == smooth.max() == 1
    assert np.abs(np.diff(smooth)).mean() < np.abs(np.diff(rough)).mean() / 2
