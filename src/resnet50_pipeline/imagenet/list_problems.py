r"""What is wrong with a list file, line by line: `train_list.txt:17: 'a.JPEG\t0': a tab → put one space between …`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

BOM = b"\xef\xbb\xbf"

# A path component: no white space of any alphabet, no control character, no backslash, no byte that is not UTF-8
# (which `surrogateescape` leaves as a lone surrogate), and neither `.` nor `..`.
_COMPONENT = r"(?!\.{1,2}(?:[/ ]|$))[^\s/\\\x00-\x1f\x7f\ud800-\udfff]+"
PATH_PATTERN = rf"{_COMPONENT}(?:/{_COMPONENT})*"
# At most 18 digits, which fit an int64.
LABEL_PATTERN = r"0|[1-9][0-9]{0,17}"
_SIGNED_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_TEXT_SHOWN = 100

Problem = tuple[int, str]
"""Line number, 1-based, and message."""


def find_problems(data: bytes, class_num: int, label_base: int, source: str) -> list[str]:
    """Return every problem of a list file, in the order of its lines.

    A slow second look, for a list of which it is known already that something is wrong.

    Args:
        data: the file as it is, byte-order mark and CRLF included, so that byte offsets are the file's.
        class_num: number of classes.
        label_base: what labels count from, 0 or 1.
        source: name of the file, for the messages.
    """
    last = label_base + class_num - 1
    problems: list[Problem] = []
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
        where = f"{source}:{number}: {shown(text)}"
        separator_problem = _find_separator_problem(text)
        if separator_problem:
            problems.append((number, f"{where}: {separator_problem}"))
            continue
        path, label = text.split(" ")
        if path_problem := _find_path_problem(path):
            problems.append((number, f"{where}: {path_problem}"))
        if not _SIGNED_INTEGER.fullmatch(label):
            rule = f"write {label_base}..{last} in the digits 0-9, without sign, point or leading zero"
            problems.append((number, f"{where}: label {label!r} is not a plain integer → {rule}"))
            continue
        # Python refuses to read an integer of thousands of digits; far out of range is far out of range.
        value = int(label[:20])
        if not label_base <= value <= last:
            rule = f"label {shown(label)[1:-1]} is outside {label_base}..{last} (class_num is {class_num})"
            out_of_range.append((number, f"{where}: {rule} → correct the label or dataset.class_num"))
        paths.append(path)
        labels.append(value)
        lines.append(number)
    if out_of_range:
        problems += _explain_label_base(labels, lines, class_num, label_base, source) or out_of_range
    problems += find_repeated_paths(paths, labels, source, lines)
    return [message for _, message in sorted(problems, key=lambda problem: problem[0])]


def find_repeated_paths(
    paths: Sequence[str], labels: Sequence[int], source: str, lines: Sequence[int] | None = None
) -> Iterator[Problem]:
    """Yield a problem for each path that an earlier line has too: both lines, and both labels where they differ.

    Args:
        paths: [N].
        labels: [N].
        source: name of the file.
        lines: [N] line numbers; by default 1..N.
    """
    lines = lines or range(1, len(paths) + 1)
    first: dict[str, int] = {}
    for index, path in enumerate(paths):
        earlier = first.setdefault(path, index)
        if earlier == index:
            continue
        if labels[earlier] == labels[index]:
            finding, step = f"also on line {lines[earlier]}", "delete one of the two lines"
        else:
            finding = f"label {labels[index]} here, but {labels[earlier]} on line {lines[earlier]}"
            step = "keep the line with the right label"
        yield lines[index], f"{source}:{lines[index]}: {shown(path)}: {finding} → {step}"


def shown(text: str) -> str:
    """Return `text` quoted, with control characters visible, and cut where it is long."""
    return repr(text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 1] + "…")


def _split_lines(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, byte offset and bytes of each line, without its line end and without blank last lines."""
    offset = len(BOM) if data.startswith(BOM) else 0
    raw_lines = data[offset:].split(b"\n")
    # A CR counts as part of a line end only before an LF.
    lines = [line.removesuffix(b"\r") for line in raw_lines[:-1]] + raw_lines[-1:]
    while lines and not lines[-1].strip(b" \t"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield number, offset, line
        offset += len(raw_lines[number - 1]) + 1


def _find_bad_byte(line: bytes, start: int) -> str:
    """Return the problem of the first NUL or non-UTF-8 byte, or an empty string; `start` is the line's offset."""
    nul = line.find(b"\0")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        if nul == -1 or error.start < nul:
            return f"byte {start + error.start}: 0x{line[error.start]:02x} is not UTF-8 → save the list as UTF-8"
    return f"byte {start + nul}: a NUL byte → the file is damaged or no text; write it anew" if nul != -1 else ""


def _find_separator_problem(text: str) -> str:
    """Return why `text` is not two fields with one space between, or an empty string."""
    findings = (
        (not text.strip(), "a blank line between entries → delete it"),
        ("\t" in text, "a tab → put one space between path and label"),
        ("\r" in text, "a carriage return inside the line → end lines in LF"),
        (text != text.strip(" "), "a space at the start or end of the line → delete it"),
        ("  " in text, "two spaces in a row → put one space between path and label"),
        (" " not in text, "the label is missing → write `path label`, with one space between"),
        (text.count(" ") > 1, "more than one space, and PaddleClas splits on each → rename the image without spaces"),
    )
    return next((finding for holds, finding in findings if holds), "")


def _find_path_problem(path: str) -> str:
    """Return why `path` is not a plain relative path, or an empty string."""
    components = path.split("/")
    findings = (
        (path.startswith("/"), "an absolute path, outside the dataset root → write it relative to its split's folder"),
        (".." in components, "`..` leads outside the dataset root → write the path without it"),
        ("\\" in path, "a backslash → separate folders with /"),
        (
            "" in components or "." in components,
            "`//`, `.` or a `/` at the end, but an image must have one spelling → write the path without it",
        ),
        (not re.fullmatch(PATH_PATTERN, path), "white space or a control character in the path → rename the image"),
    )
    return next((finding for holds, finding in findings if holds), "")


def _explain_label_base(
    labels: Sequence[int], lines: Sequence[int], class_num: int, label_base: int, source: str
) -> list[Problem]:
    """Return the one finding that stands for all where labels are whole but count from the other base, else nothing."""
    other = 1 - label_base
    extreme = class_num if label_base == 0 else 0
    if min(labels) < other or max(labels) > other + class_num - 1 or extreme not in labels:
        return []
    line = lines[labels.index(extreme)]
    return [
        (
            line,
            f"{source}:{line}: label {extreme} is outside {label_base}..{label_base + class_num - 1} (class_num is "
            f"{class_num}); labels run from {min(labels)} to {max(labels)} and look {other}-based → "
            f"set dataset.label_base: {other}",
        )
    ]
