"""Finds all pairs of similar hashes, exhaustively in small datasets and with an index in large ones.

The index uses locality-sensitive hashing by bit sampling (Indyk and Motwani 1998, "Approximate nearest neighbors"). It
consists of several tables, and each table compares the hashes that agree in a different random sample of bits. As in
the sorted lists of Charikar 2002, "Similarity estimation techniques from rounding algorithms", a hash is compared only
with the hashes that follow it in the sorted table. This limits the time, even if many hashes agree in most bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.content.difference_hash import HASH_BITS, MAX_DISTANCE

MAX_PAIRS = 20_000_000
"""Number of pairs after which the search stops. This many pairs take up 160 MB."""
# Up to this number of hashes, comparing all pairs takes less than a second.
_MAX_EXHAUSTIVE = 10_000
_MAX_PRODUCTS = 1 << 24  # 64 MiB
# Probability of finding a pair at the maximum distance. Closer pairs are more likely to be found.
_RECALL = 0.995
# With this number of extra bits, only 1 in 64 unrelated hashes has to be compared with another hash of its bucket.
_EXTRA_BITS = 6
_KEY_BITS = 64
_MAX_FOLLOWERS = 32


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of similar hashes.

    Attributes:
        rows: int64 [P, 2], the rows of each pair, with the smaller row first; sorted.
        distances: int64 [P], number of bits that differ.
        is_complete: False if the search stopped early because there were too many pairs.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.int64]
    is_complete: bool = True


def find_near_pairs(
    hashes: NDArray[np.uint8], max_distance: int = MAX_DISTANCE, *, max_pairs: int = MAX_PAIRS
) -> NearPairs:
    """Return the pairs of hashes that differ in at most `max_distance` bits.

    With up to 10,000 hashes, the search finds all pairs. With more hashes, it finds an average of at least 99% of the
    pairs whose hashes resemble few others, but fewer pairs within groups of hundreds of similar hashes.

    Args:
        hashes: uint8 [N, HASH_BITS / 8].
        max_distance: maximum number of bits that may differ.
        max_pairs: number of pairs after which the search stops.
    """
    count = len(hashes)
    search = _search_exhaustively if count <= _MAX_EXHAUSTIVE else _search_tables
    codes, is_complete = search(hashes, max_distance, max_pairs)
    rows = np.stack([codes // max(count, 1), codes % max(count, 1)], axis=1)
    words = _as_words(hashes)
    return NearPairs(rows, _count_different_bits(words[rows[:, 0]], words[rows[:, 1]]), is_complete)


def count_tables(sampled_bits: int, max_distance: int) -> int:
    """Return the number of tables needed to find a pair at `max_distance` with a probability of 99.5%."""
    agrees = math.comb(HASH_BITS - max_distance, sampled_bits) / math.comb(HASH_BITS, sampled_bits)
    return math.ceil(math.log(1 - _RECALL) / math.log1p(-agrees))


def _search_exhaustively(
    hashes: NDArray[np.uint8], max_distance: int, max_pairs: int
) -> tuple[NDArray[np.int64], bool]:
    """Return each pair as the smaller row times N plus the larger row, and whether all pairs are included."""
    count = len(hashes)
    # The product of two rows of -1 and 1 is the number of equal bits minus the number of different bits.
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    step = max(1, _MAX_PRODUCTS // max(count, 1))
    found, stored = [np.zeros(0, np.int64)], 0
    for start in range(0, count, step):
        products = signs[start : start + step] @ signs[start:].T
        left, right = np.nonzero(products >= HASH_BITS - 2 * max_distance)
        is_pair = left < right
        found.append((start + left[is_pair]) * count + start + right[is_pair])
        stored += len(found[-1])
        if stored > max_pairs:
            return np.concatenate(found)[:max_pairs], False
    return np.concatenate(found), True


def _search_tables(hashes: NDArray[np.uint8], max_distance: int, max_pairs: int) -> tuple[NDArray[np.int64], bool]:
    """Return the same as `_search_exhaustively`, although some pairs may be missing."""
    words = _as_words(hashes)
    planes = np.ascontiguousarray(np.unpackbits(hashes, axis=1).T)
    sampled_bits = math.ceil(math.log2(len(hashes))) + _EXTRA_BITS
    random = np.random.default_rng(0)
    codes = np.zeros(0, np.int64)
    for _ in range(count_tables(sampled_bits, max_distance)):
        found = _search_table(words, planes[random.permutation(HASH_BITS)[:_KEY_BITS]], sampled_bits, max_distance)
        codes = np.union1d(codes, found)
        if len(codes) > max_pairs:
            return codes[:max_pairs], False
    return codes, True


def _search_table(
    words: NDArray[np.uint64], planes: NDArray[np.uint8], sampled_bits: int, max_distance: int
) -> NDArray[np.int64]:
    """Return the near pairs that agree in the first `sampled_bits` of the bits in `planes`, uint8 [_KEY_BITS, N]."""
    count = len(words)
    keys = np.ascontiguousarray(np.packbits(planes, axis=0).T).view(">u8").ravel().astype(np.uint64)
    order = np.argsort(keys)
    buckets = keys[order] >> np.uint64(_KEY_BITS - sampled_bits)
    words = words[order]
    found = [np.zeros(0, np.int64)]
    starts = np.arange(count)
    for offset in range(1, _MAX_FOLLOWERS + 1):
        starts = starts[starts + offset < count]
        starts = starts[buckets[starts] == buckets[starts + offset]]
        if not len(starts):
            break
        is_near = _count_different_bits(words[starts], words[starts + offset]) <= max_distance
        left, right = order[starts[is_near]], order[starts[is_near] + offset]
        found.append(np.minimum(left, right) * count + np.maximum(left, right))
    return np.concatenate(found)


def _as_words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return hashes, uint8 [N, HASH_BITS / 8], as uint64 [N, W], padded with zeros."""
    padding = -hashes.shape[1] % 8
    return np.ascontiguousarray(np.pad(hashes, ((0, 0), (0, padding)))).view(np.uint64)


def _count_different_bits(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of bits in which each row of two arrays, uint64 [N, W], differs."""
    # The classic parallel bit count (Knuth, TAOCP 4A, 7.1.3), because numpy 1 has no bitwise_count.
    bits = one ^ other
    bits -= bits >> np.uint64(1) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + (bits >> np.uint64(2) & np.uint64(0x3333333333333333))
    bits = bits + (bits >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: NDArray[np.int64] = (bits * np.uint64(0x0101010101010101) >> np.uint64(56)).sum(axis=1, dtype=np.int64)
    return counts
