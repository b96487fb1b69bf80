"""Names, counts, sizes, and durations are formatted for messages."""

from __future__ import annotations

import pytest

from resnet50_pipeline.text import (
    align_columns,
    format_bytes,
    format_clock,
    format_duration,
    list_names,
    pluralize,
    suggest_name,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (64 * 2**20, "64 MiB"),
        (1.25 * 2**30, "1.25 GiB"),
        (1000 * 2**30, "1000 GiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_sizes_have_three_digits_and_a_binary_unit(size: float, text: str):
    """Sizes have three digits and the largest suitable binary unit, up to TiB."""
    assert format_bytes(size) == text


def test_durations_are_clocks_or_have_units():
    """Durations in clock format are never negative; durations in sentences have units."""
    assert [format_clock(seconds) for seconds in (-1, 6.6, 201, 3723)] == ["0:00", "0:07", "3:21", "1:02:03"]
    assert [format_duration(seconds) for seconds in (6.625, 201, 3723)] == ["6.62 s", "3 min 21 s", "1 h 2 min"]


def test_only_count_one_is_singular():
    """`pluralize` returns the singular only if the count is 1."""
    assert [pluralize(number, "rank") for number in (0, 1, 2, 1024)] == ["no ranks", "1 rank", "2 ranks", "1,024 ranks"]


def test_similar_name_is_suggested():
    """`suggest_name` returns the most similar known name, or ""."""
    assert suggest_name("trainig", ["evaluation", "training"]) == "did you mean training?"
    assert suggest_name("xyz", ["evaluation", "training"]) == ""


@pytest.mark.parametrize(("most", "text"), [(3, "a, b, c"), (2, "a, b and 1 more"), (1, "a and 2 more")])
def test_a_long_list_of_names_is_cut(most, text):
    """`list_names` appends the number of names beyond the limit."""
    assert list_names(["a", "b", "c"], most) == text


def test_columns_are_as_wide_as_their_widest_cell():
    """Cells are aligned on the left, and lines have no trailing spaces."""
    assert align_columns([["fold", "images", ""], ["1", "1,000", "x"], ["mean", "", ""]]) == [
        "fold  images",
        "1     1,000   x",
        "mean",
    ]
