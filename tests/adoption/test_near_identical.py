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
from resnet50_pipeline.adoption.near_identical import cluster, find_near_identical, find_near_pairs
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imaging.difference_hash import HASH_BITS, MAX_DISTANCE


def differing(first: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return a hash that differs in `count` bits."""
    bits = np.unpackbits(first)
    bits[np.random.default_rng(seed).permutation(HASH_BITS)[:count]] ^= 1
    return np.packbits(bits)


@settings(deadline=None, max_examples=30)
@given(changes=st.lists(st.integers(1, 40), min_size=1, max_size=30), seed=st.integers(0, 1000))
def test_all_near_pairs_are_found(changes, seed):
    """The pairs match an exhaustive comparison, even if many hashes are nearly the same."""
    random = np.random.default_rng(seed)
    centers = random.integers(0, 256, (3, HASH_BITS // 8), np.uint8)
    hashes = np.unique([differing(centers[n % 3], count, n) for n, count in enumerate(changes)], axis=0)
    expected = [
        [i, j]
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if np.unpackbits(hashes[i] ^ hashes[j]).sum() <= MAX_DISTANCE
    ]
    assert find_near_pairs(hashes).tolist() == expected


def test_the_size_of_the_products_does_not_matter(monkeypatch):
    """A bucket that is compared in parts gives the same pairs."""
    first = np.random.default_rng(0).integers(0, 256, HASH_BITS // 8, np.uint8)
    hashes = np.unique([differing(first, n % 9, n) for n in range(60)], axis=0)
    whole = find_near_pairs(hashes).tolist()
    monkeypatch.setattr(near_identical, "_MAX_PRODUCTS", 100)
    assert find_near_pairs(hashes).tolist() == whole
    assert len(whole) > 500


def test_too_many_pairs_are_an_error(monkeypatch):
    """Frames from a fixed camera would fill the memory, so an error says what to do."""
    first = np.random.default_rng(0).integers(0, 256, HASH_BITS // 8, np.uint8)
    hashes = np.unique([differing(first, n % 5, n) for n in range(60)], axis=0)
    monkeypatch.setattr(near_identical, "_MAX_PAIRS", 100)
    with pytest.raises(DatasetError, match=r"over 100 pairs.*--group-by.*--ignore-similar"):
        find_near_pairs(hashes)


def test_a_chain_is_divided():
    """In a chain of 9 images in which only neighbors are near, each cluster contains a center and its neighbors."""
    chain = np.array([[n, n + 1] for n in range(8)])
    centers = cluster(chain, np.ones(9, np.int64))
    for center in set(centers.tolist()):
        members = np.flatnonzero(centers == center)
        assert np.abs(members - center).max() <= 1
    assert len(set(centers.tolist())) == 4


def test_the_row_with_the_most_images_is_the_center():
    """A star-shaped cluster is not divided, and rows without near rows form their own clusters."""
    star = np.array([[0, 3], [1, 3], [2, 3], [3, 4]])
    assert cluster(star, np.ones(6, np.int64)).tolist() == [3, 3, 3, 3, 3, 5]
    assert cluster(np.zeros((0, 2), np.int64), np.ones(2, np.int64)).tolist() == [0, 1]


@pytest.mark.parametrize("images", [3, 40])
def test_variants_have_the_key_of_their_original(tmp_path, monkeypatch, images):
    """Variants and copies share a key, and all other images keep theirs, with one process or several."""
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
