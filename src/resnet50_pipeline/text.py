"""Formats names, counts, sizes, and durations for messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_KIBI = 1024
# Python refuses to parse integers of thousands of digits.
_MAX_DIGITS = 4000


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint with the most similar known name, such as `did you mean training?`, or "" if no name is similar."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {nearest[0]}?" if nearest else ""


def pluralize(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with a noun: `no ranks`, `1 rank`, or `1,024 ranks`. `plural` defaults to the noun plus s."""
    return f"{f'{number:,}' if number else 'no'} {noun if number == 1 else plural or f'{noun}s'}"


def list_names(names: Sequence[str], most: int) -> str:
    """Return at most `most` names as text, followed by the number of remaining names: `a, b` or `a, b and 7 more`."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def align_columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, with each column as wide as its widest cell. All rows have the same length."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]


def natural_key(name: str) -> tuple[tuple[str, int], ...]:
    """Return a sort key that compares digits as numbers, so that `val_2` comes before `val_10`."""
    return tuple((text, int(digits[:_MAX_DIGITS] or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name))


def format_bytes(size: float) -> str:
    """Return a size with three significant digits: `512 B`, `64 MiB`, `1.25 GiB`."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= _KIBI and len(units) > 1:
        size /= _KIBI
        del units[0]
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.3g} {units[0]}"


def format_duration(seconds: float) -> str:
    """Return a duration for use in sentences: `7.25 s`, `3 min 21 s`, or `1 h 2 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


def format_clock(seconds: float) -> str:
    """Return a duration for use in progress lines: `0:07`, `3:21`, or `1:02:03`. Negative durations become `0:00`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
