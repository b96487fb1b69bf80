"""Near-identical images are found and kept together, without joining all images into one cluster."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import write_image
from PIL import Image

from resnet50_pipeline.adoption import near_identical
from resnet50_pipeline.adoption.near_identical import cluster, find_near_identical, find_near_identical_pairs
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imaging.content.difference_hash import HASH_SIDE, MAX_DISTANCE, MIN_CORRELATION, hash_thumbnails


def vary(first: np.ndarray, amplitude: float, seed: int) -> np.ndarray:
    """Return a thumbnail with noise."""
    noise = np.random.default_rng(seed).normal(0, amplitude, first.shape)
    return np.clip(np.round(first + noise), 0, 255).astype(np.uint8)


def make_thumbnail(seed: int) -> np.ndarray:
    """Return a random thumbnail."""
    return np.random.default_rng(seed).integers(40, 215, (HASH_SIDE, HASH_SIDE + 1)).astype(np.uint8)


@settings(deadline=None, max_examples=30)
@given(amplitudes=st.lists(st.integers(0, 24), min_size=1, max_size=30), seed=st.integers(0, 1000))
def test_all_near_pairs_are_found(amplitudes, seed):
    """The pairs match those of an exhaustive comparison, even among many similar images."""
    centers = [make_thumbnail(seed + number) for number in range(3)]
    thumbnails = np.array([vary(centers[n % 3], amplitude, n) for n, amplitude in enumerate(amplitudes)])
    hashes = hash_thumbnails(thumbnails)
    expected = [
        [i, j]
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if np.unpackbits(hashes[i] ^ hashes[j]).sum() <= MAX_DISTANCE
        and np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] >= MIN_CORRELATION
    ]
    assert find_near_identical_pairs(thumbnails).tolist() == expected


def test_similar_outlines_are_not_near():
    """Images whose hashes agree are not near if their pixels differ, such as a plain and a patterned garment."""
    plain = np.full((HASH_SIDE, HASH_SIDE + 1), 20, np.uint8)
    plain[:, ::2] = 200
    patterned = plain.copy()
    patterned[::2, ::2] = 90
    assert (hash_thumbnails(plain) == hash_thumbnails(patterned)).all()
    brighter = np.round(plain * 1.2).astype(np.uint8)
    assert find_near_identical_pairs(np.array([plain, patterned, brighter])).tolist() == [[0, 2]]


def test_too_many_pairs_are_an_error():
    """Frames from a fixed camera, which would fill the memory, cause an error with a remedy."""
    thumbnails = np.array([vary(make_thumbnail(0), n % 4, n) for n in range(60)])
    with pytest.raises(DatasetError, match=r"more than 100 pairs.*--group-by.*--ignore-similar"):
        find_near_identical_pairs(thumbnails, max_pairs=100)


def test_a_chain_is_divided():
    """In a chain of 9 images that only resemble their neighbors, each cluster has a center and its neighbors."""
    chain = np.array([[n, n + 1] for n in range(8)])
    centers = cluster(chain, 9)
    for center in set(centers.tolist()):
        members = np.flatnonzero(centers == center)
        assert np.abs(members - center).max() <= 1
    assert len(set(centers.tolist())) == 4


def test_the_row_with_the_most_near_rows_is_the_center():
    """A star-shaped cluster is not divided, and rows without near rows form their own clusters."""
    star = np.array([[0, 3], [1, 3], [2, 3], [3, 4]])
    assert cluster(star, 6).tolist() == [3, 3, 3, 3, 3, 5]
    assert cluster(np.zeros((0, 2), np.int64), 2).tolist() == [0, 1]


@pytest.mark.parametrize("images", [3, 40])
def test_variants_have_the_key_of_their_original(tmp_path, monkeypatch, images):
    """Variants and copies share a key, and all others keep their own, with one process or several."""
    monkeypatch.setattr(near_identical, "_MIN_IMAGES_FOR_POOL", 60)
    digests = {}
    for number in range(images):
        write_image(tmp_path / f"{number}.png", number, (9, 7))
        with Image.open(tmp_path / f"{number}.png") as image:
            smooth = image.resize((90, 70), Image.Resampling.BICUBIC)
        smooth.save(tmp_path / f"{number}.png")
        smooth.resize((120, 93), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.jpg")
        digests |= {f"{number}.png": f"png {number}", f"{number}.jpg": f"jpg {number}"}
    digests |= {"copy.png": "png 0", "gone.png": "gone", "broken.png": ""}
    found = find_near_identical(tmp_path, digests, workers=2)
    keys = [{found.contents[f"{number}.{suffix}"] for suffix in ("png", "jpg")} for number in range(images)]
    assert all(len(both) == 1 for both in keys)
    assert len(set.union(*keys)) == images
    assert found.contents["copy.png"] == found.contents["0.png"]
    assert found.contents["gone.png"] == "gone"
    assert "broken.png" not in found.contents
    assert (found.kept_pairs, found.separated_pairs) == (images, 0)
    assert found.example == ("0.jpg", "0.png")
