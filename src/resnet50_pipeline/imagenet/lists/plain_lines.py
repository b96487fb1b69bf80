r"""Parses plain list files quickly, by finding the columns with NumPy.

    n01440764/n01440764_26.JPEG 0\n      starts, ends: positions of each path in the bytes; labels: 0, …

ImageNet's own lists are plain: ASCII, one space per line, LF line endings, plain labels and no repeated paths. Lists
that this parser rejects go to the exact parser (`files`, `problems`). This parser never accepts a list that the exact
parser would reject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

_BYTES_PER_CHUNK = 1 << 17
_LINES_PER_CHUNK = 1 << 14
# Longer paths are left to the exact parser, because the time to hash a chunk grows with its longest path.
_MAX_PATH_BYTES = 256
_MAX_LABEL_DIGITS = 9
_WORD = 8
_NEWLINE, _SPACE, _SLASH, _ZERO = b"\n /0"
# Masks that keep the lowest 0..8 bytes of a little-endian word.
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], dtype=np.uint64)
# Multiplier of the linear congruential generator in Knuth's MMIX.
_MULTIPLIER = np.uint64(6364136223846793005)


@dataclass(frozen=True, eq=False)
class PlainLines:
    """The positions of the paths in a plain list's bytes, and the labels.

    Attributes:
        data: bytes of the list; the final LF may be missing.
        starts: [N] int64, position of the first byte of each path.
        ends: [N] int64, position after the last byte of each path.
        labels: [N] int64, as written in the file.
    """

    data: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)


class PathColumn(Sequence[str]):
    """The paths in a list, decoded on access, because decoding a million strings takes longer than checking them.

    A column equals any sequence of the same strings.
    """

    def __init__(self, data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._data, self._starts, self._ends = data, starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> PathColumn: ...

    def __getitem__(self, index: int | slice) -> str | PathColumn:
        if isinstance(index, slice):
            return PathColumn(self._data, self._starts[index], self._ends[index])
        return self._data[self._starts[index] : self._ends[index]].decode("ascii")

    def __iter__(self) -> Iterator[str]:
        text = self._data.decode("ascii")
        return (text[start:end] for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # an equal tuple would have a different hash


def find_plain_lines(data: bytes) -> PlainLines | None:
    """Parse a plain list without repeated paths, or return None for any other list.

    A plain list is ASCII and consists of `path label` lines, with one space and an LF (optional on the last line).
    Paths are relative and at most 256 bytes long. They contain no backslash and no component that is empty or starts
    with one of `!"#$%&'()*+,-.`. Labels have at most 9 digits, without a sign or leading zeros.
    """
    if not data or not data.isascii() or b"\x7f" in data or b"\\" in data:
        return None
    whole = data if data.endswith(b"\n") else data + b"\n"
    array = np.frombuffer(whole, dtype=np.uint8)
    separators = _find_separators(array)
    if separators is None:
        return None
    spaces, newlines = separators[0::2], separators[1::2]
    starts = np.empty_like(newlines)
    starts[0] = 0
    starts[1:] = newlines[:-1] + 1
    lengths = spaces - starts
    if lengths.min() < 1 or lengths.max() > _MAX_PATH_BYTES or (array[starts] <= _SLASH).any():
        return None
    labels = _read_labels(array, spaces, newlines)
    if labels is None or _may_repeat(whole, starts, spaces):
        return None
    return PlainLines(data, starts, spaces, labels)


def add_prefix(lines: PlainLines, prefix: bytes, others: Sequence[bytes]) -> tuple[PlainLines, int] | None:
    """Add `prefix` to all paths, unless all of them already have it.

    Args:
        lines: plain list.
        prefix: `train/` or `val/`.
        others: prefixes of the other splits.

    Returns:
        The lines and the number of prefixes added, which is 0 or the number of paths. None if only some paths have the
        prefix, if a path has it twice, or if a path has the prefix of another split.
    """
    has_prefix = _starts_with(lines, prefix, lines.starts)
    if has_prefix.all():
        inner = lines.starts + len(prefix)
        return None if any(_starts_with(lines, start, inner).any() for start in (prefix, *others)) else (lines, 0)
    if has_prefix.any() or any(_starts_with(lines, start, lines.starts).any() for start in others):
        return None
    count = len(lines)
    replaced = memoryview(lines.data.replace(b"\n", b"\n" + prefix))
    # Nothing follows the last LF, so drop the prefix added there.
    prefixed = b"".join((prefix, replaced[: -len(prefix)] if lines.data.endswith(b"\n") else replaced))
    shift = np.arange(count, dtype=np.int64) * len(prefix)
    return PlainLines(prefixed, lines.starts + shift, lines.ends + shift + len(prefix), lines.labels), count


def _find_separators(array: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Return the positions of the spaces and LFs, or None if these do not alternate.

    Also return None if a slash is followed by a byte not greater than `/`, because such a byte means an empty
    component, a leading dot or a trailing slash.
    """
    found = []
    for start in range(0, len(array), _BYTES_PER_CHUNK):
        chunk = array[start : start + _BYTES_PER_CHUNK]
        found.append(np.flatnonzero(chunk <= _SPACE) + start)
        behind = array[start + 1 : start + 1 + len(chunk)]
        if ((chunk[: len(behind)] == _SLASH) & (behind <= _SLASH)).any():
            return None
    separators = np.concatenate(found)
    if len(separators) % 2:
        return None
    kinds = array[separators]
    alternates = (kinds[0::2] == _SPACE).all() and (kinds[1::2] == _NEWLINE).all()
    return separators if alternates else None


def _read_labels(
    array: NDArray[np.uint8], spaces: NDArray[np.int64], newlines: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return the number between each space and LF, or None if any of these is not a plain number."""
    digits = newlines - spaces - 1
    longest = int(digits.max())
    if digits.min() < 1 or longest > _MAX_LABEL_DIGITS:
        return None
    if ((array[spaces + 1] == _ZERO) & (digits > 1)).any():
        return None
    labels = np.zeros(len(spaces), dtype=np.int64)
    for place in range(longest):
        has_digit = digits > place
        digit = array[newlines - 1 - place] - np.uint8(_ZERO)  # bytes below "0" wrap around to values above 9
        if ((digit > 9) & has_digit).any():
            return None
        labels += np.where(has_digit, digit, 0).astype(np.int64) * 10**place
    return labels


def _may_repeat(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
    """Return whether two paths have the same 64-bit hash, which almost never happens unless the paths are equal."""
    hashes = np.empty(len(starts), dtype=np.uint64)
    steps = -(-int((ends - starts).max()) // _WORD)
    for first in range(0, len(starts), _LINES_PER_CHUNK):
        chunk = slice(first, first + _LINES_PER_CHUNK)
        hashes[chunk] = _hash_paths(data, starts[chunk], ends[chunk], steps)
    hashes.sort()
    return bool((hashes[1:] == hashes[:-1]).any())


def _hash_paths(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], steps: int) -> NDArray[np.uint64]:
    """Hash each path from `steps` 8-byte words. Bytes after the end of a path count as zero."""
    origin = int(starts[0])
    padded = data[origin : int(ends[-1])] + bytes(_WORD * (steps + 1))
    words: NDArray[np.uint64] = np.ndarray((len(padded) - _WORD + 1,), dtype="<u8", buffer=padded, strides=(1,))
    lengths = ends - starts
    at = starts - origin
    hashes = lengths.astype(np.uint64)
    for step in range(steps):
        left = np.clip(lengths - _WORD * step, 0, _WORD)
        hashes ^= words[at] & _LOW_BYTES[left]
        hashes *= _MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
        at = at + _WORD
    return hashes


def _starts_with(lines: PlainLines, prefix: bytes, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each path contains `prefix` at the given position."""
    array = np.frombuffer(lines.data, dtype=np.uint8)
    found = positions + len(prefix) < lines.ends
    for offset, byte in enumerate(prefix):
        if not found.any():
            break
        # Clip positions beyond the end of the data. `found` is already False for these lines.
        found &= array[np.minimum(positions + offset, len(array) - 1)] == byte
    return found
