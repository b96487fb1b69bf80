"""List files: strict reading, every problem at once, and prefixes exactly as `sed` puts them."""

import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.list_files import (
    ListEntries,
    parse_list,
    prefix_list,
    read_list_file,
    render_list,
)

FAULTS = {
    "tab": (b"a.JPEG 0\nb.JPEG\t1\n", 2, r"'b\.JPEG\\t1': a tab → put one space"),
    "label missing": (b"a.JPEG 0\nb.JPEG\n", 2, r"'b\.JPEG': the label is missing → write"),
    "blank middle line": (b"a.JPEG 0\n\nb.JPEG 1\n", 2, r"'': a blank line between entries → delete it"),
    "two spaces": (b"a.JPEG  0\n", 1, r"'a\.JPEG  0': two spaces in a row → put one space"),
    "space in the path": (b"a b.JPEG 0\n", 1, r"'a b\.JPEG 0': more than one space, .* → rename the image"),
    "space at the end": (b"a.JPEG 0 \n", 1, r"a space at the start or end of the line → delete it"),
    "space at the start": (b" a.JPEG 0\n", 1, r"a space at the start or end of the line → delete it"),
    "no-break space": ("a\u00a0b.JPEG 0\n".encode(), 1, r"white space or a control character .* → rename"),
    "not UTF-8": (b"a.JPEG 0\nb\xff.JPEG 1\n", 2, r"byte 10: 0xff is not UTF-8 → save the list as UTF-8"),
    "not UTF-8 behind BOM and CRLF": (b"\xef\xbb\xbfa 0\r\nb\xff 1\r\n", 2, r"byte 9: 0xff is not UTF-8"),
    "NUL": (b"a.JPEG 0\nb.JPEG\x00 1\n", 2, r"byte 15: a NUL byte → "),
    "UTF-16": ("a.JPEG 0\n".encode("utf-16"), 1, r"the file is UTF-16 → save it as UTF-8"),
    "label -1": (b"a.JPEG -1\n", 1, r"label -1 is outside 0\.\.9 \(class_num is 10\) → correct the label or dataset"),
    "label of 5000 digits": (b"a.JPEG " + b"9" * 5000 + b"\n", 1, r"label 9+… is outside 0\.\.9"),
    "label 1_0": (b"a.JPEG 1_0\n", 1, r"label '1_0' is not a plain integer → write 0\.\.9"),
    "label 0.5": (b"a.JPEG 0.5\n", 1, r"label '0\.5' is not a plain integer → write 0\.\.9"),
    "label in Arabic digits": ("a.JPEG ٣\n".encode(), 1, r"label '٣' is not a plain integer → write 0\.\.9"),
    "label -0": (b"a.JPEG -0\n", 1, r"label '-0' is not a plain integer"),
    "label +1": (b"a.JPEG +1\n", 1, r"label '\+1' is not a plain integer"),
    "leading zero": (b"a.JPEG 03\n", 1, r"label '03' is not a plain integer"),
    "absolute path": (b"/data/a.JPEG 0\n", 1, r"an absolute path, outside the dataset root → write it relative"),
    "dot dot": (b"n1/../../a.JPEG 0\n", 1, r"`\.\.` leads outside the dataset root → write the path without it"),
    "second spelling": (b"./a.JPEG 0\n", 1, r"an image must have one spelling → write the path without it"),
    "doubled slash": (b"n1//a.JPEG 0\n", 1, r"an image must have one spelling → write the path without it"),
    "backslash": (b"n1\\a.JPEG 0\n", 1, r"a backslash → separate folders with /"),
    "lone CR": (b"a.JPEG 0\rb.JPEG 1\n", 1, r"a carriage return inside the line → end lines in LF"),
    "same path twice": (b"a.JPEG 0\nb.JPEG 1\na.JPEG 0\n", 3, r"'a\.JPEG': also on line 1 → delete one"),
    "two labels": (b"a.JPEG 0\nb.JPEG 1\na.JPEG 2\n", 3, r"label 2 here, but 0 on line 1 → keep the line"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_file_line_and_next_step(tmp_path: Path, name: str) -> None:
    """Each fault of a line gives one error that names file, line and text, and says what to do; the file stays."""
    data, line, message = FAULTS[name]
    path = tmp_path / "train_list.txt"
    path.write_bytes(data)
    with pytest.raises(ListFileError) as raised:
        read_list_file(path, class_num=10)
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith(f"{path}:{line}: ")
    assert re.search(message, raised.value.problems[0])
    assert path.read_bytes() == data


def test_all_faults_of_a_list_come_in_one_pass_in_the_order_of_lines() -> None:
    """Two faults of one line, and faults of any kind in any lines, are all in the error, by line."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a\t0\nb 0\n/c 77\nb 1\nd\n", class_num=10, source="l.txt")
    assert [problem.split(": ")[0] for problem in raised.value.problems] == [
        "l.txt:1",
        "l.txt:3",
        "l.txt:3",
        "l.txt:4",
        "l.txt:5",
    ]


def test_a_message_shows_ten_problems_and_counts_the_rest() -> None:
    """A list of a thousand bad lines does not flood the terminal."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a\n" * 1000, class_num=10)
    assert len(raised.value.problems) == 1000
    assert str(raised.value).count("\n") == 10
    assert str(raised.value).endswith("... and 990 more")


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n \n", b"\xef\xbb\xbf"])
def test_an_empty_list_is_refused(data: bytes) -> None:
    """A list without a single entry is an error of its own."""
    with pytest.raises(ListFileError, match="the list is empty → it needs one"):
        parse_list(data, class_num=10, source="l.txt")


def test_labels_from_one_are_recognised() -> None:
    """Labels 1..class_num give one error, which names the setting."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a 1\nb 2\nc 3\n", class_num=3, source="l.txt")
    assert raised.value.problems == (
        "l.txt:3: label 3 is outside 0..2 (class_num is 3); labels run from 1 to 3 and look 1-based → "
        "set dataset.label_base: 1",
    )


def test_labels_from_zero_are_recognised_where_one_was_set() -> None:
    """Labels 0..class_num-1 under label_base 1 give one error, which names the setting."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a 0\nb 1\nc 0\n", class_num=3, label_base=1, source="l.txt")
    assert len(raised.value.problems) == 1
    assert "look 0-based → set dataset.label_base: 0" in raised.value.problems[0]


def test_label_base_one_gives_labels_from_zero() -> None:
    """Entries count from 0 whatever the file counts from."""
    entries = parse_list(b"a 1\nb 3\n", class_num=3, label_base=1)
    assert entries.labels.tolist() == [0, 2]
    assert render_list(entries) == "a 0\nb 2\n"


@pytest.mark.parametrize(
    ("data", "notice"),
    [
        (b"\xef\xbb\xbfa 0\nb 1\n", "a byte-order mark was stripped"),
        (b"a 0\r\nb 1\r\n", "2 lines ended in CRLF and were normalised to LF"),
        (b"a 0\nb 1\n\n", "1 blank last lines were left out"),
        (b"a 0\nb 1\n\n  \n\t", "3 blank last lines were left out"),
    ],
)
def test_harmless_things_are_put_right_and_noticed(data: bytes, notice: str) -> None:
    """Byte-order mark, CRLF and blank last lines do no harm; they are left out of the entries, and counted."""
    entries = parse_list(data, class_num=10)
    assert entries.paths == ("a", "b")
    assert entries.labels.tolist() == [0, 1]
    assert entries.labels.dtype == np.int64
    assert entries.notices == (notice,)
    assert render_list(entries) == "a 0\nb 1\n"


def test_a_missing_list_is_not_found(tmp_path: Path) -> None:
    """A list that is not there has its own error, with the settings that name it."""
    with pytest.raises(DatasetNotFoundError, match=r"dataset\.train_list"):
        read_list_file(tmp_path / "train_list.txt", class_num=10)


@pytest.mark.timeout(10)
def test_a_fifo_in_place_of_a_list_does_not_block(tmp_path: Path) -> None:
    """A FIFO or folder under the list's name is refused without being opened."""
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(DatasetNotFoundError, match="is not a regular file"):
        read_list_file(tmp_path / "list.txt", class_num=10)
    with pytest.raises(DatasetNotFoundError, match="is not a regular file"):
        read_list_file(tmp_path, class_num=10)


# ── prefixes ──

_names = st.text(alphabet="abcABC019_-é.", min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_lists = st.lists(st.tuples(_paths, st.integers(0, 999)), min_size=1, max_size=20, unique_by=lambda entry: entry[0])


@given(entries=_lists, ends_with_newline=st.booleans())
def test_rendering_what_was_parsed_gives_the_file(entries: list[tuple[str, int]], ends_with_newline: bool) -> None:
    """render_list(parse_list(x)) = x, byte for byte, with or without a last LF."""
    data = ("\n".join(f"{path} {label}" for path, label in entries) + "\n" * ends_with_newline).encode()
    assert render_list(parse_list(data, class_num=1000)).encode() == data


@given(entries=_lists)
def test_parsing_what_was_rendered_gives_the_entries(entries: list[tuple[str, int]]) -> None:
    """parse_list(render_list(x)) = x."""
    given_entries = ListEntries(tuple(path for path, _ in entries), np.array([label for _, label in entries]))
    parsed = parse_list(render_list(given_entries).encode(), class_num=1000)
    assert parsed.paths == given_entries.paths
    assert parsed.labels.tolist() == given_entries.labels.tolist()


@settings(max_examples=50, deadline=None)
@given(entries=_lists, split=st.sampled_from(["train", "val"]), ends_with_newline=st.booleans())
def test_a_prefix_is_put_exactly_as_sed_puts_it(entries, split, ends_with_newline: bool) -> None:
    """On a clean list the result is byte for byte that of `sed 's#^#train/#'`, and a second time changes nothing."""
    data = ("\n".join(f"{path} {label}" for path, label in entries) + "\n" * ends_with_newline).encode()
    by_sed = subprocess.run(["sed", f"s#^#{split}/#"], input=data, capture_output=True, check=True).stdout
    once = prefix_list(parse_list(data, class_num=1000), split)
    assert once.text.encode() == by_sed
    assert once.added_count == len(entries)
    twice = prefix_list(parse_list(once.text.encode(), class_num=1000), split)
    assert twice.text.encode() == by_sed
    assert twice.added_count == 0


def test_a_mixed_list_gets_the_missing_prefixes_and_they_are_counted() -> None:
    """Where some paths have the prefix, the others get it; order and labels stay."""
    prefixed = prefix_list(parse_list(b"train/b 1\na 0\ntrain/c 2\n", class_num=10), "train")
    assert prefixed.text == "train/b 1\ntrain/a 0\ntrain/c 2\n"
    assert prefixed.added_count == 1


def test_a_doubled_prefix_is_refused() -> None:
    """`train/train/…` says that sed ran twice."""
    with pytest.raises(ListFileError, match=r"l:2: 'train/train/b': starts with train/ twice; was `sed` run twice\? →"):
        prefix_list(parse_list(b"train/a 0\ntrain/train/b 1\n", class_num=10, source="l"), "train")


def test_swapped_lists_are_refused() -> None:
    """A path below val/ in the list of train/ is an error, and not `train/val/…`."""
    with pytest.raises(ListFileError, match=r"'val/a': belongs to another split, .* are the two lists swapped\?"):
        prefix_list(parse_list(b"val/a 0\n", class_num=10), "train")


def test_paths_that_are_the_same_once_prefixed_are_refused() -> None:
    """`a` and `train/a` are one image; both lines and labels are named."""
    with pytest.raises(ListFileError, match="label 1 here, but 0 on line 1"):
        prefix_list(parse_list(b"train/a 0\na 1\n", class_num=10), "train")


# ── robustness and speed ──

_nasty_pieces = (
    b"a| |0|\n|b/|train/| |1|10|-1|007|\n|\r|\r\n|\t|\0|\xff|..|.|/|\\|\xef\xbb\xbf|\xc3\xa9|\xe2\x80\xa8|\x1c".split(
        b"|"
    )
)
_nasty = st.lists(st.sampled_from(_nasty_pieces), max_size=14).map(b"".join)


@settings(max_examples=1500, deadline=None)
@given(data=_nasty, label_base=st.sampled_from([0, 1]))
def test_whatever_the_bytes_a_list_is_read_or_refused_with_reasons(data: bytes, label_base) -> None:
    """Any bytes bring entries that can be rendered and read again, or an error with at least one problem."""
    try:
        entries = parse_list(data, class_num=10, label_base=label_base)
    except ListFileError as error:
        assert error.problems
        assert all("→" in problem for problem in error.problems)
        return
    assert len(entries) == len(set(entries.paths)) == len(entries.labels) > 0
    assert set(entries.labels.tolist()) <= set(range(10))
    assert parse_list(render_list(entries).encode(), class_num=10).paths == entries.paths


@pytest.mark.slow
def test_the_whole_of_imagenet_is_read_in_seconds() -> None:
    """1,281,167 lines are read, checked and prefixed in under 15 s."""
    lines = [f"n{i // 1282:08d}/n{i // 1282:08d}_{i}.JPEG {i // 1282}" for i in range(1_281_167)]
    data = ("\n".join(lines) + "\n").encode()
    start = time.monotonic()
    prefixed = prefix_list(parse_list(data, class_num=1000), "train")
    assert time.monotonic() - start < 15
    assert prefixed.added_count == len(lines)
    assert prefixed.entries.labels.max() == 999
