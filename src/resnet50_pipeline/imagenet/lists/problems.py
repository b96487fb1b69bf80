r"""Explains the problems in a list file, line by line.

train_list.txt:17: 'a.JPEG\t0' contains a tab → put one space between path and label
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

BOM = b"\xef\xbb\xbf"

# A path component other than `.` and `..`, without Unicode whitespace, control characters, backslashes or bytes that
# are not UTF-8 (`surrogateescape` decodes such bytes to lone surrogates).
_COMPONENT = r"(?!\.{1,2}(?:[/ ]|$))[^\s/\\\x00-\x1f\x7f\ud800-\udfff]+"
PATH_PATTERN = rf"{_COMPONENT}(?:/{_COMPONENT})*"
# A path component in a list with tabs. Such a component may also contain spaces.
_SPACED = r"(?!\.{1,2}(?:[/\t]|$))(?!\s+(?:[/\t]|$))[^/\\\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]+"
SPACED_PATH_PATTERN = rf"{_SPACED}(?:/{_SPACED})*"
# 18 digits always fit into an int64.
LABEL_PATTERN = r"0|[1-9][0-9]{0,17}"
_LABEL_FIRST = re.compile(r"[0-9]+[ ,;\t]+\S*[^0-9\s]\S*")
_COLUMNS = re.compile(r"\S+ [0-9]+(?: \S+)+")
_SIGNED_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_MAX_QUOTED_CHARACTERS = 100

Problem = tuple[int, str]
"""A 1-based line number and a message."""


def find_problems(data: bytes, class_num: int, label_base: int, source: str) -> list[str]:
    """Return all problems in a list file, ordered by line.

    This function runs only for invalid lists, so it favors clear messages over speed.

    Args:
        data: original bytes of the file, including any byte-order mark and CRLF, so that offsets in messages are
            correct.
        class_num: number of classes.
        label_base: smallest valid label, 0 or 1.
        source: name of the file, used in messages.
    """
    last = label_base + class_num - 1
    delimiter = find_delimiter(data)
    problems: list[Problem] = []
    separator_problems: list[tuple[int, str, str]] = []
    out_of_range: list[Problem] = []
    paths: list[str] = []
    labels: list[int] = []
    lines: list[int] = []
    for number, offset, raw in _split_lines(data):
        unreadable = _find_bad_byte(raw, offset)
        if unreadable:
            problems.append((number, f"{source}:{number}: {unreadable}"))
            continue
        text = raw.decode("utf-8")
        where = f"{source}:{number}: {quote(text)}"
        separator_problem = _find_separator_problem(text, delimiter)
        if separator_problem:
            separator_problems.append((number, where, separator_problem))
            continue
        path, label = text.split(delimiter)
        if path_problem := _find_path_problem(path, delimiter):
            problems.append((number, f"{where} {path_problem}"))
        if not _SIGNED_INTEGER.fullmatch(label):
            rule = f"write a number in {label_base}..{last} without a sign, decimal point or leading zeros"
            problems.append((number, f"{where}: label {label!r} is not a plain integer → {rule}"))
            continue
        # Python refuses to parse thousands of digits, and 20 digits are enough to see that a label is out of range.
        value = int(label[:20])
        if not label_base <= value <= last:
            rule = f"label {quote(label)[1:-1]} is outside {label_base}..{last} (class_num is {class_num})"
            out_of_range.append((number, f"{where}: {rule} → correct the label or dataset.class_num"))
        paths.append(path)
        labels.append(value)
        lines.append(number)
    later = any(number > 1 for number in [*(number for number, _ in problems), *lines])
    problems += _merge_if_all_lines_share(separator_problems, others=later)
    if out_of_range:
        problems += _find_wrong_label_base(labels, lines, class_num, label_base, source) or out_of_range
    problems += find_repeated_paths(paths, labels, source, lines)
    return [message for _, message in sorted(problems, key=lambda problem: problem[0])]


def find_delimiter(data: bytes) -> str:
    """Return a tab if every line has exactly one tab and a path contains whitespace. Otherwise, return a space.

    A byte-order mark and trailing blank lines are ignored.
    """
    lines = data.rstrip(b" \t\r\n").split(b"\n")
    if any(line.count(b"\t") != 1 for line in lines):
        return " "
    paths = (line.partition(b"\t")[0].decode("utf-8", "replace") for line in lines)
    return "\t" if any(re.search(r"\s", path) for path in paths) else " "


def find_repeated_paths(
    paths: Sequence[str], labels: Sequence[int], source: str, lines: Sequence[int] | None = None
) -> Iterator[Problem]:
    """Yield a problem for each path that appears on an earlier line.

    The message includes both line numbers, and both labels if they differ.

    Args:
        paths: [N] paths, in file order.
        labels: [N] labels, in file order.
        source: name of the file, used in messages.
        lines: [N] line numbers; None means 1..N.
    """
    lines = lines or range(1, len(paths) + 1)
    first: dict[str, int] = {}
    for index, path in enumerate(paths):
        earlier = first.setdefault(path, index)
        if earlier == index:
            continue
        if labels[earlier] == labels[index]:
            finding, step = f"is also on line {lines[earlier]}", "keep only one of the lines"
        else:
            finding = f"has label {labels[index]} here, but {labels[earlier]} on line {lines[earlier]}"
            step = "keep the line with the correct label"
        yield lines[index], f"{source}:{lines[index]}: {quote(path)} {finding} → {step}"


def quote(text: str) -> str:
    """Return `text` in quotes, with control characters escaped and long text truncated."""
    return repr(text if len(text) <= _MAX_QUOTED_CHARACTERS else text[: _MAX_QUOTED_CHARACTERS - 1] + "…")


def _split_lines(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, byte offset and bytes of each line, without line endings or trailing blank lines."""
    offset = len(BOM) if data.startswith(BOM) else 0
    raw_lines = data[offset:].split(b"\n")
    # A CR is part of a line ending only if an LF follows.
    lines = [line.removesuffix(b"\r") for line in raw_lines[:-1]] + raw_lines[-1:]
    while lines and not lines[-1].strip(b" \t"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield number, offset, line
        offset += len(raw_lines[number - 1]) + 1


def _find_bad_byte(line: bytes, start: int) -> str:
    """Describe the first NUL or non-UTF-8 byte, or return an empty string. `start` is the line's offset in the file."""
    nul = line.find(b"\0")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        if nul == -1 or error.start < nul:
            return f"byte {start + error.start}: 0x{line[error.start]:02x} is not UTF-8 → save the list as UTF-8"
    return f"byte {start + nul} is NUL; the file is damaged or not text → recreate the file" if nul != -1 else ""


def _merge_if_all_lines_share(found: Sequence[tuple[int, str, str]], *, others: bool) -> list[Problem]:
    """Return a single problem if all lines have the same format error. Otherwise, return one per line."""
    has_header = len(found) > 2 and found[0][0] == 1 and found[0][2] != found[1][2]
    rest = found[1:] if has_header else found
    kinds = {finding for _, _, finding in rest}
    if len(rest) < 2 or len(kinds) > 1 or others or _NO_LABEL in kinds:
        return [(number, f"{where} {finding}") for number, where, finding in found]
    number, where, finding = rest[0]
    text, _, fix = finding.partition(" → ")
    header = [(1, f"{found[0][1]} is a header → start the list with its first image")] if has_header else []
    return [*header, (number, f"{where} {text}, like all {len(rest):,} lines → {fix}")]


_NO_LABEL = "has no label → write `path label`, with one space in between"


def _find_separator_problem(text: str, delimiter: str) -> str:
    """Return why `text` is not two fields separated by the delimiter, or an empty string if it is."""
    if delimiter == "\t":
        is_one = text.count("\t") == 1 and "\r" not in text
        return "" if is_one else "must have one tab between path and label, and no carriage return → correct the line"
    findings = (
        (not text.strip(), "is a blank line between entries → delete the line"),
        (
            _LABEL_FIRST.fullmatch(text) is not None,
            "has the label before the path → write `path label`, with one space in between",
        ),
        ("\t" in text, "contains a tab → put one space between path and label"),
        ("\r" in text, "contains a carriage return → end lines with LF"),
        (text != text.strip(" "), "starts or ends with a space → delete the space"),
        ("  " in text, "contains two spaces in a row → put one space between path and label"),
        (
            " " not in text and re.search(r"[,;]\s*[0-9]+\s*(?:[,;]|$)", text) is not None,
            "has a comma or semicolon between path and label → write `path label`, with one space in between",
        ),
        (" " not in text, _NO_LABEL),
        (
            _COLUMNS.fullmatch(text) is not None,
            "has extra columns after the label → keep only path and label",
        ),
        (
            text.count(" ") > 1,
            "contains more than one space, but PaddleClas splits at every space → put a tab between path and label on "
            "every line, or remove the spaces from the image's name",
        ),
    )
    return next((finding for holds, finding in findings if holds), "")


def _find_path_problem(path: str, delimiter: str) -> str:
    """Return why `path` is not a plain relative path, or an empty string if it is."""
    components = path.split("/")
    findings = (
        (
            path.startswith("/"),
            "is an absolute path, outside the dataset root → write a path relative to the split's folder",
        ),
        (".." in components, "could escape the dataset root through `..` → write the path without it"),
        ("\\" in path, "contains a backslash → separate folders with /"),
        (
            "" in components or "." in components,
            "contains `//`, a `.` component or a trailing `/`, so the same image could be listed twice → write the "
            "path without it",
        ),
        (
            not re.fullmatch(PATH_PATTERN if delimiter == " " else SPACED_PATH_PATTERN, path),
            "contains whitespace or a control character → rename the image",
        ),
    )
    return next((finding for holds, finding in findings if holds), "")


def _find_wrong_label_base(
    labels: Sequence[int], lines: Sequence[int], class_num: int, label_base: int, source: str
) -> list[Problem]:
    """Return a list with a single problem if all labels would be valid with the other label base, otherwise []."""
    other = 1 - label_base
    extreme = class_num if label_base == 0 else 0
    if min(labels) < other or max(labels) > other + class_num - 1 or extreme not in labels:
        return []
    line = lines[labels.index(extreme)]
    return [
        (
            line,
            f"{source}:{line}: label {extreme} is outside {label_base}..{label_base + class_num - 1} (class_num is "
            f"{class_num}); labels range from {min(labels)} to {max(labels)} and appear to be {other}-based → set "
            f"dataset.label_base: {other}",
        )
    ]
