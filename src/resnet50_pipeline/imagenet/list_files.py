r"""The list files of an ImageNet folder: one image a line, its path, one space, its label.

    n01440764/n01440764_10026.JPEG 0            as ImageNet's lists come: relative to train/ or val/
    train/n01440764/n01440764_10026.JPEG 0      as PaddleClas reads them: relative to the dataset root

UTF-8, LF, labels count from 0. Reading is strict, for PaddleClas is not: it splits on one space, lets `int()` read
the label, and its dataset class puts another image where one cannot be read.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.list_bytes import PathColumn, PlainLines, find_plain_lines, put_prefix
from resnet50_pipeline.imagenet.list_problems import (
    BOM,
    LABEL_PATTERN,
    PATH_PATTERN,
    find_problems,
    find_repeated_paths,
    shown,
)

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")

_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_CLEAN_LINE = re.compile(rf"^({PATH_PATTERN}) ({LABEL_PATTERN})$", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class ListEntries:
    """The entries of one list file, in its order; entry `i` stands on line `i + 1`.

    Attributes:
        paths: POSIX paths as the file gives them, relative.
        labels: [N] int64, 0-based, whatever the file counts from.
        notices: what was put right while reading (byte-order mark, CRLF, blank last lines), a sentence each.
        source: name of the file, for messages.
        ends_with_newline: whether the last line of the file has its LF; `render_list` keeps that.
        plain: the same entries as a list of bytes with 0-based labels, where they were read from such a one.
    """

    paths: Sequence[str]
    labels: NDArray[np.int64]
    notices: tuple[str, ...] = ()
    source: str = "list"
    ends_with_newline: bool = True
    plain: PlainLines | None = None

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class PrefixedList:
    """A list whose paths all start with their split's folder.

    Attributes:
        entries: paths relative to the dataset root.
        added_count: entries that had no prefix and were given one; the others had it and stay as they were.
        repaired_count: entries that had it more than once and were left with one.
    """

    entries: ListEntries
    added_count: int
    repaired_count: int = 0

    @property
    def text(self) -> str:
        """The list file, as `render_list` gives it."""
        return render_list(self.entries)

    @property
    def data(self) -> bytes:
        """The bytes of the list file."""
        return self.text.encode() if self.entries.plain is None else self.entries.plain.data


def read_list_file(path: Path, class_num: int, label_base: Literal[0, 1] = 0) -> ListEntries:
    """Read and check the list file at `path`.

    Args:
        path: a `relative/path label` file.
        class_num: labels must lie in label_base..label_base + class_num - 1.
        label_base: what the file counts classes from. The entries count from 0 in any case.

    Raises:
        DatasetNotFoundError: there is no regular file at `path`.
        ListFileError: with every line that breaks the format, as `file:line: text → what to do`.
    """
    try:
        # A FIFO named as list would block the reader for good.
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise DatasetNotFoundError(
            f"{path}: there is no list file ({error}) → create it, or set dataset.root and dataset.train_list/val_list"
        ) from error
    if not is_regular:
        raise DatasetNotFoundError(f"{path}: is not a regular file → name a `path label` text file")
    return parse_list(path.read_bytes(), class_num, label_base, source=str(path))


def parse_list(data: bytes, class_num: int, label_base: Literal[0, 1] = 0, source: str = "list") -> ListEntries:
    """Return the entries of a list file's bytes; see `read_list_file`, of which this is the part without a disk.

    Raises:
        ListFileError: with every line that breaks the format.
    """
    plain = find_plain_lines(data)
    if plain is not None:
        labels = plain.labels - label_base if label_base else plain.labels
        if labels.min() >= 0 and labels.max() < class_num:
            return _make_entries(plain, labels, (), source)
    if data.startswith(_UTF16_BOMS):
        raise ListFileError([f"{source}:1: byte 0: the file is UTF-16 → save it as UTF-8"])
    body, notices = _put_right(data)
    if not body:
        raise ListFileError([f"{source}: the list is empty → it needs one `path label` line an image"])
    text = body.decode("utf-8", errors="surrogateescape")
    matches = _CLEAN_LINE.findall(text)
    line_count = text.count("\n") + (not text.endswith("\n"))
    if len(matches) == line_count:
        paths = tuple(match[0] for match in matches)
        labels = np.array([match[1] for match in matches], dtype=np.int64) - label_base
        in_range = labels.min() >= 0 and labels.max() < class_num
        if in_range and len(set(paths)) == line_count:
            return ListEntries(paths, labels, notices, source, text.endswith("\n"))
    raise ListFileError(find_problems(data, class_num, label_base, source))


def render_list(entries: ListEntries) -> str:
    """Return the list file of `entries`: one `path label` a line, one space, LF, labels 0-based."""
    if entries.plain is not None:
        return entries.plain.data.decode("ascii")
    lines = [f"{path} {label}" for path, label in zip(entries.paths, entries.labels.tolist(), strict=True)]
    return "\n".join(lines) + ("\n" if entries.ends_with_newline else "")


def prefix_list(entries: ListEntries, split: Split, *, repair: bool = False) -> PrefixedList:
    """Put `train/` or `val/` in front of every path that does not have it, and keep the order.

    On a clean list the text is byte for byte that of `sed 's#^#train/#'`; on a list that was prefixed already
    it is the list itself.

    Args:
        entries: paths relative to the split's folder, to the dataset root, or mixed.
        split: whose list it is.
        repair: take away what `sed` put too much when it was run more than once, instead of refusing it.

    Raises:
        ListFileError: with every path that has its prefix twice, or the other split's, or that is on two lines once
            all have the prefix.
    """
    prefix = f"{split}/"
    others = tuple(f"{other}/" for other in SPLITS if other != split)
    if entries.plain is not None:
        prefixed = put_prefix(entries.plain, prefix.encode(), [other.encode() for other in others])
        if prefixed is not None:
            lines, added_count = prefixed
            return PrefixedList(_make_entries(lines, lines.labels, entries.notices, entries.source), added_count)
    problems = []
    paths = []
    added_count = repaired_count = 0
    for line, path in enumerate(entries.paths, start=1):
        bare = path.removeprefix(prefix)
        added_count += bare == path
        if bare.startswith(prefix) and repair:
            repaired_count += 1
            while bare.startswith(prefix):
                bare = bare.removeprefix(prefix)
        paths.append(prefix + bare)
        where = f"{entries.source}:{line}: {shown(path)}"
        if bare.startswith(prefix):
            problems.append(
                f"{where}: starts with {prefix} twice; was `sed` run twice? → take one {prefix} away, or set "
                "dataset.repair: true"
            )
        elif bare.startswith(others):
            problems.append(
                f"{where}: belongs to another split, but this is the list of {prefix} → are the two lists swapped?"
            )
    if len(set(paths)) != len(paths):
        problems += [message for _, message in find_repeated_paths(paths, entries.labels.tolist(), entries.source)]
    if problems:
        raise ListFileError(problems)
    return PrefixedList(replace(entries, paths=tuple(paths), plain=None), added_count, repaired_count)


def _make_entries(plain: PlainLines, labels: NDArray[np.int64], notices: tuple[str, ...], source: str) -> ListEntries:
    """Return the entries of plain lines; those count as such only where their labels count from 0 as well."""
    paths = PathColumn(plain.data, plain.starts, plain.ends)
    is_rendered = labels is plain.labels
    return ListEntries(paths, labels, notices, source, plain.data.endswith(b"\n"), plain if is_rendered else None)


def _put_right(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the bytes without byte-order mark, CR before LF and blank last lines, and what was found of them."""
    notices = []
    if data.startswith(BOM):
        data = data.removeprefix(BOM)
        notices.append("a byte-order mark was stripped")
    if crlf_count := data.count(b"\r\n"):
        data = data.replace(b"\r\n", b"\n")
        notices.append(f"{crlf_count} lines ended in CRLF and were normalised to LF")
    kept = data.rstrip(b" \t\n")
    # Blanks behind the last entry, on its own line, are that line's fault and stay.
    end = data.find(b"\n", len(kept)) + 1 or len(data)
    if not kept:
        end = 0
    blank_count = data.count(b"\n", end) + (end < len(data) and not data.endswith(b"\n"))
    if blank_count:
        notices.append(f"{blank_count} blank last lines were left out")
    return data[:end], tuple(notices)
