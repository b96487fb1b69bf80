r"""Reads and renders the list files in an ImageNet folder: one line per image, with its path, a space and its label.

    n01440764/n01440764_10026.JPEG 0            ImageNet's own lists: relative to train/ or val/
    train/n01440764/n01440764_10026.JPEG 0      PaddleClas' lists: relative to the dataset root

The files are UTF-8 with LF line endings, and labels start at 0. If any path contains a space, a tab separates path and
label on every line, and PaddleClas needs `delimiter: "\t"`. Parsing is strict because PaddleClas is lenient: it splits
each line on a space, parses the label with `int()`, and silently replaces an unreadable image with a random one.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.lists.plain_lines import PathColumn, PlainLines, add_prefix, find_plain_lines
from resnet50_pipeline.imagenet.lists.problems import (
    BOM,
    LABEL_PATTERN,
    PATH_PATTERN,
    SPACED_PATH_PATTERN,
    find_delimiter,
    find_problems,
    find_repeated_paths,
    quote,
)
from resnet50_pipeline.text import pluralize

Split = Literal["train", "val", "test"]
# The splits that every dataset has. Only a dataset with its own lists can have a test split.
SPLITS: tuple[Split, ...] = ("train", "val")

# Upper limit for labels if the number of classes is unknown. Labels are array indexes, so a larger label is a mistake.
MAX_CLASSES = 1_000_000
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_CLEAN_LINES = {
    " ": re.compile(rf"^({PATH_PATTERN}) ({LABEL_PATTERN})$", re.MULTILINE),
    "\t": re.compile(rf"^({SPACED_PATH_PATTERN})\t({LABEL_PATTERN})$", re.MULTILINE),
}


@dataclass(frozen=True, eq=False)
class ListEntries:
    """Entries of a list file, in file order. Entry `i` comes from line `i + 1`.

    Attributes:
        paths: relative POSIX paths, as written in the file.
        labels: [N] int64, always 0-based.
        notices: one sentence per problem that was corrected (byte-order mark, CRLF, trailing blank lines).
        source: name of the file, used in messages.
        ends_with_newline: whether the last line ends in LF; `render_list` preserves this.
        plain: result of the fast parser `plain_lines`; None if it rejected the file or the labels are 1-based.
    """

    paths: Sequence[str]
    labels: NDArray[np.int64]
    notices: tuple[str, ...] = ()
    source: str = "list"
    ends_with_newline: bool = True
    plain: PlainLines | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def delimiter(self) -> str:
        """Character between path and label: a tab if a path contains whitespace, otherwise a space."""
        return " " if self.plain is not None else choose_delimiter(self.paths)


@dataclass(frozen=True, eq=False)
class PrefixedList:
    """A list in which every path starts with the folder of its split.

    Attributes:
        entries: entries with paths relative to the dataset root.
        added_count: number of paths that did not have the prefix.
        repaired_count: number of paths that had the prefix more than once.
        is_generated: whether the list was generated from folders or a ground truth file, because there is no list file.
    """

    entries: ListEntries
    added_count: int
    repaired_count: int = 0
    is_generated: bool = False

    @property
    def text(self) -> str:
        """Text of the list file, as returned by `render_list`."""
        return render_list(self.entries)

    @property
    def data(self) -> bytes:
        """Content of the list file, as bytes."""
        return self.text.encode() if self.entries.plain is None else self.entries.plain.data


def read_list_file(path: Path, class_num: int | None, label_base: Literal[0, 1] = 0) -> ListEntries:
    """Read and check the list file at `path`.

    Args:
        path: file with `relative/path label` lines.
        class_num: number of classes; labels must be in label_base..label_base + class_num - 1. None sets no upper
            limit.
        label_base: smallest label in the file, 0 or 1. The returned labels are always 0-based.

    Raises:
        DatasetNotFoundError: if there is no regular file at `path`.
        ListFileError: if any line is invalid; the message lists each one as `file:line: text → what to do`.
    """
    try:
        # Check first, because opening a FIFO would block forever.
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise DatasetNotFoundError(
            f"{path}: the list file is missing ({error}) → create the file, or correct dataset.root, "
            "dataset.train_list or dataset.val_list"
        ) from error
    if not is_regular:
        raise DatasetNotFoundError(f"{path} is not a regular file → use a text file with `path label` lines")
    return parse_list(path.read_bytes(), class_num, label_base, source=str(path))


def parse_list(data: bytes, class_num: int | None, label_base: Literal[0, 1] = 0, source: str = "list") -> ListEntries:
    """Parse the bytes of a list file. For arguments and result, see `read_list_file`.

    Raises:
        ListFileError: if any line is invalid; the message lists each one.
    """
    class_num = MAX_CLASSES if class_num is None else class_num
    plain = find_plain_lines(data)
    if plain is not None:
        labels = plain.labels - label_base if label_base else plain.labels
        if labels.min() >= 0 and labels.max() < class_num:
            return _make_entries(plain, labels, (), source)
    if data.startswith(_UTF16_BOMS):
        raise ListFileError([f"{source}:1: byte 0: the file is UTF-16 → save the list as UTF-8"])
    body, notices = _normalize_bytes(data)
    if not body:
        raise ListFileError([f"{source}: the list is empty → write one `path label` line per image"])
    text = body.decode("utf-8", errors="surrogateescape")
    matches = _CLEAN_LINES[find_delimiter(body)].findall(text)
    line_count = text.count("\n") + (not text.endswith("\n"))
    if len(matches) == line_count:
        paths = tuple(match[0] for match in matches)
        labels = np.array([match[1] for match in matches], dtype=np.int64) - label_base
        in_range = labels.min() >= 0 and labels.max() < class_num
        if in_range and len(set(paths)) == line_count:
            return ListEntries(paths, labels, notices, source, text.endswith("\n"))
    raise ListFileError(find_problems(data, class_num, label_base, source))


def render_list(entries: ListEntries) -> str:
    """Return the text of a list file: one line per entry, with its path, the delimiter and its 0-based label."""
    if entries.plain is not None:
        return entries.plain.data.decode("ascii")
    labels, delimiter = entries.labels.tolist(), entries.delimiter
    lines = [f"{path}{delimiter}{label}" for path, label in zip(entries.paths, labels, strict=True)]
    return "\n".join(lines) + ("\n" if entries.ends_with_newline else "")


def choose_delimiter(paths: Iterable[str]) -> str:
    """Return a tab if a path contains whitespace, otherwise a space."""
    return "\t" if any(re.search(r"\s", path) for path in paths) else " "


def prefix_list(
    entries: ListEntries, split: Split, *, repair: bool = False, class_folders: Sequence[str] = ()
) -> PrefixedList:
    """Add `train/` or `val/` to every path that does not start with it. The order is preserved.

    For a clean list, the text is identical to the output of `sed 's#^#train/#'`. A list that already has the prefix is
    left unchanged.

    Args:
        entries: entries with paths relative to the split's folder or to the dataset root; a list may contain both.
        split: split of the list.
        repair: whether to remove prefixes that `sed` added more than once, instead of raising an error.
        class_folders: class folders named like a split, such as `train` in COCO. If there are such folders, either all
            paths in the list or none of them must have the prefix.

    Raises:
        ListFileError: if a path has its prefix twice or the prefix of another split, or if adding the prefix creates
            duplicate paths.
    """
    prefix = f"{split}/"
    others = tuple(f"{other}/" for other in SPLITS if other != split)
    if entries.plain is not None:
        prefixed = add_prefix(entries.plain, prefix.encode(), [other.encode() for other in others])
        if prefixed is not None:
            lines, added_count = prefixed
            return PrefixedList(_make_entries(lines, lines.labels, entries.notices, entries.source), added_count)
    if class_folders and not _is_misplaced(entries.paths, prefix, others):
        if all(path.startswith(prefix) for path in entries.paths):
            return PrefixedList(entries, 0)
        paths = [prefix + path for path in entries.paths]
        return PrefixedList(replace(entries, paths=tuple(paths), plain=None), len(paths))
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
        where = f"{entries.source}:{line}: {quote(path)}"
        if bare.startswith(prefix):
            problems.append(
                f"{where} starts with {prefix} twice, probably because `sed` ran twice → remove one {prefix}, or set "
                "dataset.repair: true"
            )
        elif bare.startswith(others):
            problems.append(
                f"{where} belongs to another split, but this is the {split} list → check that the lists are not swapped"
            )
    if len(set(paths)) != len(paths):
        problems += [message for _, message in find_repeated_paths(paths, entries.labels.tolist(), entries.source)]
    if problems:
        raise ListFileError(problems)
    return PrefixedList(replace(entries, paths=tuple(paths), plain=None), added_count, repaired_count)


def _is_misplaced(paths: Sequence[str], prefix: str, others: tuple[str, ...]) -> bool:
    """Return whether all paths repeat the prefix, or all have another split's prefix.

    Class folders that are named like a split cannot explain either case.
    """
    return all(path.startswith(prefix * 2) for path in paths) or all(path.startswith(others) for path in paths)


def _make_entries(plain: PlainLines, labels: NDArray[np.int64], notices: tuple[str, ...], source: str) -> ListEntries:
    """Build entries from a plain list. `plain` is set only if the labels in the file are 0-based."""
    paths = PathColumn(plain.data, plain.starts, plain.ends)
    is_rendered = labels is plain.labels
    return ListEntries(paths, labels, notices, source, plain.data.endswith(b"\n"), plain if is_rendered else None)


def _normalize_bytes(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Remove a byte-order mark, CRs before LFs and trailing blank lines. Return the bytes and one notice per change."""
    notices = []
    if data.startswith(BOM):
        data = data.removeprefix(BOM)
        notices.append("removed a byte-order mark")
    if crlf_count := data.count(b"\r\n"):
        data = data.replace(b"\r\n", b"\n")
        notices.append(f"converted CRLF to LF on {pluralize(crlf_count, 'line')}")
    kept = data.rstrip(b" \t\n")
    # Spaces at the end of the last entry are an error. Keep them so that the error is reported.
    end = data.find(b"\n", len(kept)) + 1 or len(data)
    if not kept:
        end = 0
    blank_count = data.count(b"\n", end) + (end < len(data) and not data.endswith(b"\n"))
    if blank_count:
        notices.append(f"ignored {pluralize(blank_count, 'trailing blank line')}")
    return data[:end], tuple(notices)
