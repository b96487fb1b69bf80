"""List files are parsed strictly, all problems are reported together, and prefixing gives the same text as `sed`."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.lists.files import (
    ListEntries,
    parse_list,
    prefix_list,
    read_list_file,
    render_list,
)

FAULTS = {
    "tab": (b"a.JPEG 0\nb.JPEG\t1\n", 2, r"'b\.JPEG\\t1' contains a tab"),
    "label missing": (b"a.JPEG 0\nb.JPEG\n", 2, r"'b\.JPEG' .*label"),
    "blank middle line": (b"a.JPEG 0\n\nb.JPEG 1\n", 2, r"'' is a blank line"),
    "two spaces": (b"a.JPEG  0\n", 1, r"'a\.JPEG  0' contains two spaces"),
    "space in the path": (b"a b.JPEG 0\n", 1, r"'a b\.JPEG 0' contains more than one space"),
    "space at the end": (b"a.JPEG 0 \n", 1, r"starts or ends with a space"),
    "space at the start": (b" a.JPEG 0\n", 1, r"starts or ends with a space"),
    "no-break space": ("a\u00a0b.JPEG 0\n".encode(), 1, r"a\\xa0b\.JPEG"),
    "not UTF-8": (b"a.JPEG 0\nb\xff.JPEG 1\n", 2, r"byte 10: 0xff"),
    "not UTF-8 after BOM and CRLF": (b"\xef\xbb\xbfa 0\r\nb\xff 1\r\n", 2, r"byte 9: 0xff"),
    "NUL": (b"a.JPEG 0\nb.JPEG\x00 1\n", 2, r"byte 15 is NUL"),
    "UTF-16": ("a.JPEG 0\n".encode("utf-16"), 1, r"UTF-16"),
    "label -1": (b"a.JPEG -1\n", 1, r"label -1 .*0\.\.9 \(class_num is 10\)"),
    "label of 5000 digits": (b"a.JPEG " + b"9" * 5000 + b"\n", 1, r"label 9+… .*0\.\.9"),
    "label 1_0": (b"a.JPEG 1_0\n", 1, r"label '1_0' .*0\.\.9"),
    "label 0.5": (b"a.JPEG 0.5\n", 1, r"label '0\.5' .*0\.\.9"),
    "label in Arabic digits": ("a.JPEG ٣\n".encode(), 1, r"label '٣' .*0\.\.9"),
    "label -0": (b"a.JPEG -0\n", 1, r"label '-0' .*0\.\.9"),
    "label +1": (b"a.JPEG +1\n", 1, r"label '\+1' .*0\.\.9"),
    "leading zero": (b"a.JPEG 03\n", 1, r"label '03' .*0\.\.9"),
    "absolute path": (b"/data/a.JPEG 0\n", 1, r"'/data/a\.JPEG 0' is an absolute path"),
    "dot dot": (b"n1/../../a.JPEG 0\n", 1, r"'n1/\.\./\.\./a\.JPEG 0' .*`\.\.`"),
    "second spelling": (b"./a.JPEG 0\n", 1, r"'\./a\.JPEG 0' .*`\.`"),
    "doubled slash": (b"n1//a.JPEG 0\n", 1, r"'n1//a\.JPEG 0' .*`//`"),
    "backslash": (b"n1\\a.JPEG 0\n", 1, r"a backslash"),
    "lone CR": (b"a.JPEG 0\rb.JPEG 1\n", 1, r"a carriage return"),
    "same path twice": (b"a.JPEG 0\nb.JPEG 1\na.JPEG 0\n", 3, r"'a\.JPEG' .*line 1\b"),
    "two labels": (b"a.JPEG 0\nb.JPEG 1\na.JPEG 2\n", 3, r"label 2 .* 0 on line 1\b"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_invalid_line_is_reported_with_file_line_and_next_step(tmp_path: Path, name: str) -> None:
    """Each invalid line is reported as one problem with file, line, text and next step. The file is not changed."""
    data, line, message = FAULTS[name]
    path = tmp_path / "train_list.txt"
    path.write_bytes(data)
    with pytest.raises(ListFileError) as raised:
        read_list_file(path, class_num=10)
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith(f"{path}:{line}: ")
    assert re.search(message, raised.value.problems[0])
    assert "→" in raised.value.problems[0]
    assert path.read_bytes() == data


def test_all_problems_are_reported_in_line_order() -> None:
    """All problems in a list, even two on the same line, are reported in one error and ordered by line."""
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
    """The message for a list with a thousand bad lines shows ten problems and counts the others."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a\n" * 1000, class_num=10)
    assert len(raised.value.problems) == 1000
    assert str(raised.value).count("\n") == 10
    assert "990 more" in str(raised.value)


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n \n", b"\xef\xbb\xbf"])
def test_an_empty_list_is_refused(data: bytes) -> None:
    """A list without entries is an error."""
    with pytest.raises(ListFileError, match=r"l\.txt: .*empty"):
        parse_list(data, class_num=10, source="l.txt")


def test_one_based_labels_are_recognized() -> None:
    """1-based labels are reported as a single problem that mentions the parameter."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a 1\nb 2\nc 3\n", class_num=3, source="l.txt")
    (problem,) = raised.value.problems
    assert problem.startswith("l.txt:3: label 3 ")
    assert "0..2 (class_num is 3)" in problem
    assert problem.endswith("dataset.label_base: 1")


def test_zero_based_labels_are_recognized_with_label_base_one() -> None:
    """If label_base is 1, 0-based labels are reported as a single problem that mentions the parameter."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a 0\nb 1\nc 0\n", class_num=3, label_base=1, source="l.txt")
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].endswith("dataset.label_base: 0")


def test_entries_have_zero_based_labels() -> None:
    """The labels of the entries are 0-based even if the labels in the file are 1-based."""
    entries = parse_list(b"a 1\nb 3\n", class_num=3, label_base=1)
    assert entries.labels.tolist() == [0, 2]
    assert render_list(entries) == "a 0\nb 2\n"


@pytest.mark.parametrize(
    ("data", "notice"),
    [
        (b"\xef\xbb\xbfa 0\nb 1\n", "byte-order mark"),
        (b"a 0\r\nb 1\r\n", "2 lines"),
        (b"a 0\nb 1\n\n", "1 trailing blank line"),
        (b"a 0\nb 1\n\n  \n\t", "3 trailing blank lines"),
    ],
)
def test_harmless_irregularities_are_corrected_with_a_notice(data: bytes, notice: str) -> None:
    """A byte-order mark, CRLF and trailing blank lines are removed with a notice."""
    entries = parse_list(data, class_num=10)
    assert entries.paths == ("a", "b")
    assert entries.labels.tolist() == [0, 1]
    assert entries.labels.dtype == np.int64
    assert [notice in found for found in entries.notices] == [True]
    assert render_list(entries) == "a 0\nb 1\n"


def test_missing_list_is_reported(tmp_path: Path) -> None:
    """A missing list raises an error that mentions the parameter."""
    with pytest.raises(DatasetNotFoundError, match=r"dataset\.train_list"):
        read_list_file(tmp_path / "train_list.txt", class_num=10)


@pytest.mark.timeout(10)
def test_fifo_with_the_name_of_a_list_does_not_block(tmp_path: Path) -> None:
    """A FIFO or folder with the list's name is rejected without being opened."""
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(DatasetNotFoundError, match=str(tmp_path)):
        read_list_file(tmp_path / "list.txt", class_num=10)
    with pytest.raises(DatasetNotFoundError, match=str(tmp_path)):
        read_list_file(tmp_path, class_num=10)


# ── prefixes ──

_names = st.text(alphabet="abcABC019_-é.", min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_lists = st.lists(st.tuples(_paths, st.integers(0, 999)), min_size=1, max_size=20, unique_by=lambda entry: entry[0])


@given(entries=_lists, ends_with_newline=st.booleans())
def test_rendering_what_was_parsed_gives_the_file(entries: list[tuple[str, int]], ends_with_newline: bool) -> None:
    """render_list(parse_list(x)) = x, byte for byte, with or without a trailing LF."""
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
def test_prefixing_equals_sed(entries, split, ends_with_newline: bool) -> None:
    """For a clean list, prefixing equals `sed 's#^#train/#'` byte for byte, and prefixing again changes nothing."""
    data = ("\n".join(f"{path} {label}" for path, label in entries) + "\n" * ends_with_newline).encode()
    by_sed = subprocess.run(["sed", f"s#^#{split}/#"], input=data, capture_output=True, check=True).stdout
    once = prefix_list(parse_list(data, class_num=1000), split)
    assert once.text.encode() == by_sed
    assert once.added_count == len(entries)
    twice = prefix_list(parse_list(once.text.encode(), class_num=1000), split)
    assert twice.text.encode() == by_sed
    assert twice.added_count == 0


def test_missing_prefixes_are_added_and_counted() -> None:
    """Missing prefixes are added and counted; order and labels stay the same."""
    prefixed = prefix_list(parse_list(b"train/b 1\na 0\ntrain/c 2\n", class_num=10), "train")
    assert prefixed.text == "train/b 1\ntrain/a 0\ntrain/c 2\n"
    assert prefixed.added_count == 1


def test_a_doubled_prefix_is_refused() -> None:
    """`train/train/…` is rejected as the result of running `sed` twice."""
    with pytest.raises(ListFileError, match=r"l:2: 'train/train/b' .*dataset\.repair"):
        prefix_list(parse_list(b"train/a 0\ntrain/train/b 1\n", class_num=10, source="l"), "train")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"train/bus/a 0\ntrain/train/b 1\n", "train/bus/a 0\ntrain/train/b 1\n"),
        (b"bus/a 0\ntrain/b 1\n", "train/bus/a 0\ntrain/train/b 1\n"),
        (b"bus/a 0\nval/b 1\n", "train/bus/a 0\ntrain/val/b 1\n"),
    ],
)
def test_a_class_may_have_the_name_of_a_split(data: bytes, expected: str) -> None:
    """If class folders are named train or val, either all paths in a list have the prefix or none do."""
    entries = parse_list(data, class_num=10)
    assert prefix_list(entries, "train", class_folders=["train", "val"]).text == expected


@pytest.mark.parametrize("data", [b"train/train/bus/a 0\ntrain/train/train/b 1\n", b"val/bus/a 0\nval/val/b 1\n"])
def test_class_folders_do_not_hide_doubled_prefixes_and_swapped_lists(data: bytes) -> None:
    """If all paths have the prefix twice, or the prefix of the other split, the list is rejected."""
    with pytest.raises(ListFileError):
        prefix_list(parse_list(data, class_num=10), "train", class_folders=["train", "val"])


def test_swapped_lists_are_refused() -> None:
    """A path below val/ in the train list is rejected rather than prefixed."""
    with pytest.raises(ListFileError, match=r"'val/a' .*train"):
        prefix_list(parse_list(b"val/a 0\n", class_num=10), "train")


def test_paths_that_are_the_same_once_prefixed_are_refused() -> None:
    """`a` and `train/a` are the same image; the error lists both lines and labels."""
    with pytest.raises(ListFileError, match=r"label 1 .* 0 on line 1\b"):
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
def test_any_bytes_are_parsed_or_refused_with_problems(data: bytes, label_base) -> None:
    """Arbitrary bytes produce entries that survive a round trip, or an error with at least one problem."""
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
def test_list_of_imagenet_size_is_read() -> None:
    """A list with 1,281,167 lines is read, checked and prefixed."""
    lines = [f"n{i // 1282:08d}/n{i // 1282:08d}_{i}.JPEG {i // 1282}" for i in range(1_281_167)]
    data = ("\n".join(lines) + "\n").encode()
    prefixed = prefix_list(parse_list(data, class_num=1000), "train")
    assert prefixed.added_count == len(lines)
    assert prefixed.entries.labels.max() == 999


# ── other list formats ──


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"c/a 0 0.5\nc/b 1 0.5\n", "columns after the label"),
        (b"c/a,0\nc/b,1\n", "comma"),
        (b"c/a;0\nc/b;1\n", "semicolon"),
        (b"0 c/a\n1 c/b\n", "label before the path"),
        (b"c/a\t0\nc/b\t1\n", "a tab"),
        (b"c/a b 0\nc/d e 1\n", "put a tab between"),
    ],
)
def test_fault_in_all_lines_is_reported_once(data: bytes, message: str) -> None:
    """A fault that all lines share is reported as a single problem with the number of lines."""
    with pytest.raises(ListFileError) as raised:
        parse_list(data, class_num=10, source="l")
    (problem,) = raised.value.problems
    assert problem.startswith("l:1: ")
    assert message in problem
    assert "all 2 lines" in problem


def test_a_header_is_reported_separately() -> None:
    """A first line that differs from all others is reported as a header."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"image label\n" + b"c/a,0\nc/b,1\n", class_num=10, source="l")
    assert [problem.split(": ")[0] for problem in raised.value.problems] == ["l:1", "l:2"]


def test_a_tab_allows_spaces_in_paths() -> None:
    """A list with one tab per line and spaces in paths is read, prefixed and rendered with tabs."""
    data = "tabby cat/a b.JPEG\t0\ngolden\u00a0retriever/c.JPEG\t1\n".encode()
    entries = parse_list(data, class_num=2)
    assert entries.paths == ("tabby cat/a b.JPEG", "golden\u00a0retriever/c.JPEG")
    assert entries.labels.tolist() == [0, 1]
    assert render_list(entries).encode() == data
    prefixed = prefix_list(entries, "train")
    assert prefixed.text.splitlines()[0] == "train/tabby cat/a b.JPEG\t0"
    again = prefix_list(parse_list(prefixed.data, class_num=2), "train")
    assert again.data == prefixed.data


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a b/c\t7\n", "label 7 .*0\\.\\.1"),
        (b"a b/../c\t0\n", r"`\.\."),
        (b"/a b/c\t0\n", "absolute"),
        (b"a b/c\tx\n", "label 'x'"),
        (b"a b/ /c\t0\n", "whitespace"),
        (b"a b/d\t0\n", "line 1"),
    ],
)
def test_faults_of_a_list_with_tabs_are_reported(line: bytes, message: str) -> None:
    """Paths and labels in a list with tabs follow the same rules as in a list with spaces."""
    with pytest.raises(ListFileError) as raised:
        parse_list(b"a b/d\t0\n" + line, class_num=2, source="l")
    (problem,) = raised.value.problems
    assert problem.startswith("l:2: ")
    assert re.search(message, problem)
