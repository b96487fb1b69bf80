"""The search for similar hashes finds nearly all pairs, in bounded time and memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from resnet50_pipeline.imaging.content import near_pairs
from resnet50_pipeline.imaging.content.difference_hash import HASH_BITS, MAX_DISTANCE
from resnet50_pipeline.imaging.content.near_pairs import count_tables, find_near_pairs


def flip(hashes: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return the hashes with up to `most` random bits flipped in each."""
    random = np.random.default_rng(seed)
    bits = np.unpackbits(hashes, axis=1)
    for row in bits:
        row[random.choice(HASH_BITS, random.integers(most + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def make_hashes(count: int, seed: int = 0) -> np.ndarray:
    """Return random hashes. The hashes in the second half are similar to those in the first half."""
    originals = np.random.default_rng(seed).integers(0, 256, (count // 2, HASH_BITS // 8), dtype=np.uint8)
    return np.concatenate([originals, flip(originals, 2 * MAX_DISTANCE, seed)])


def test_all_pairs_of_a_small_dataset_are_found(monkeypatch):
    """The result matches a comparison of all pairs, even if the products are computed in parts."""
    hashes = make_hashes(300)
    distances = {
        (i, j): int(np.unpackbits(hashes[i] ^ hashes[j]).sum()) for i, j in itertools.combinations(range(300), 2)
    }
    expected = {pair: distance for pair, distance in distances.items() if distance <= MAX_DISTANCE}
    assert 50 < len(expected) < 150
    for products in (1 << 24, 1000):
        monkeypatch.setattr(near_pairs, "_MAX_PRODUCTS", products)
        found = find_near_pairs(hashes)
        assert dict(zip(map(tuple, found.rows.tolist()), found.distances.tolist(), strict=True)) == expected
        assert found.is_complete


def test_the_index_finds_nearly_all_pairs(monkeypatch):
    """The index finds at least 99% of the pairs, and nothing else."""
    hashes = make_hashes(4000)
    exact = {tuple(pair) for pair in find_near_pairs(hashes).rows.tolist()}
    monkeypatch.setattr(near_pairs, "_MAX_EXHAUSTIVE", 100)
    found = find_near_pairs(hashes)
    pairs = [tuple(pair) for pair in found.rows.tolist()]
    assert pairs == sorted(set(pairs))
    assert set(pairs) <= exact
    assert len(pairs) >= 0.99 * len(exact) > 900
    assert found.distances.max() <= MAX_DISTANCE


def test_equal_bits_do_not_hide_pairs(monkeypatch):
    """Pairs are found among images with the same plain background, even though most of their bits agree."""
    hashes = make_hashes(3000)
    hashes[:, : HASH_BITS // 16] = 0
    exact = len(find_near_pairs(hashes).rows)
    monkeypatch.setattr(near_pairs, "_MAX_EXHAUSTIVE", 100)
    monkeypatch.setattr(near_pairs, "_MAX_FOLLOWERS", 4)
    assert len(find_near_pairs(hashes).rows) >= 0.99 * exact


@pytest.mark.parametrize("exhaustive", [1000, 10])
def test_the_search_stops_after_too_many_pairs(monkeypatch, exhaustive):
    """Hundreds of frames from a fixed camera do not exhaust memory."""
    monkeypatch.setattr(near_pairs, "_MAX_EXHAUSTIVE", exhaustive)
    frames = flip(np.repeat(make_hashes(2)[:1], 200, axis=0), 3, seed=1)
    found = find_near_pairs(frames, max_pairs=500)
    assert (len(found.rows), found.is_complete) == (500, False)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_datasets_have_few_pairs(count):
    """No images yield no pairs, and two equal hashes yield one pair at distance 0."""
    found = find_near_pairs(np.zeros((count, HASH_BITS // 8), np.uint8))
    assert found.rows.tolist() == ([[0, 1]] if count == 2 else [])
    assert found.distances.tolist() == ([0] if count == 2 else [])


def test_the_number_of_tables_follows_from_the_recall():
    """With all bits equal, one table is enough; more sampled bits or a larger distance need more tables."""
    assert count_tables(20, 1) < count_tables(20, 12) < count_tables(28, 12)
    # A pair at distance 72 agrees in one sampled bit with a probability of 1/2: 1 - 0.5 ** 8 > 0.995.
    assert count_tables(1, HASH_BITS // 2) == 8
