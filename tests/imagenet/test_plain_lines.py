"""The plain-list parser accepts only lists that the exact parser accepts, with the same results."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.lists import files as list_files
from resnet50_pipeline.imagenet.lists import plain_lines as list_bytes
from resnet50_pipeline.imagenet.lists.comparison import find_first_difference
from resnet50_pipeline.imagenet.lists.files import ListEntries, PrefixedList, parse_list, prefix_list, render_list
from resnet50_pipeline.imagenet.lists.plain_lines import PathColumn, add_prefix, find_plain_lines

_pieces = (
    b"a|b|n1|.JPEG| |0|\n|/|train/|val/| |1|10|-1|007|\n|\r|\r\n|\t|\0|\x7f|\xff|..|.|-|~|\\|\xef\xbb\xbf|\xc3\xa9|"
    b"x 1\n|y/z 2\n|x 3\n|train/w 4\n|1234567890|  "
).split(b"|")
_nasty = st.lists(st.sampled_from(_pieces), max_size=14).map(b"".join)
_names = st.text(alphabet="abcABC019_.-~", min_size=1, max_size=12)
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_lines = st.lists(st.tuples(st.sampled_from(["", "train/", "train/train/", "val/"]), _paths, st.integers(0, 1100)))
_clean = _lines.map(lambda lines: "".join(f"{prefix}{path} {label}\n" for prefix, path, label in lines).encode())


def read(data: bytes, label_base, repair: bool) -> tuple[object, ...]:
    """Return all results of reading a list, or all its problems."""
    try:
        entries = parse_list(data, 1000, label_base)
        prefixed = prefix_list(entries, "train", repair=repair)
    except ListFileError as error:
        return error.problems
    return (
        tuple(entries.paths),
        entries.labels.tolist(),
        entries.notices,
        entries.ends_with_newline,
        tuple(prefixed.entries.paths),
        prefixed.entries.labels.tolist(),
        prefixed.text,
        prefixed.data,
        prefixed.added_count,
        prefixed.repaired_count,
    )


@settings(max_examples=3000, deadline=None)
@given(data=_nasty | _clean | st.binary(max_size=30), label_base=st.sampled_from([0, 1]), repair=st.booleans())
@example(data=b"a 0\nb 999\nc 300\n", label_base=0, repair=False)
@example(data=b"train/a 1\ntrain/b 22", label_base=1, repair=False)
def test_both_parsers_agree_on_any_bytes(data: bytes, label_base, repair: bool) -> None:
    """Entries, text, counts and problems are the same with and without the plain-list parser."""
    quick = read(data, label_base, repair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_files, "find_plain_lines", lambda _: None)
        assert read(data, label_base, repair) == quick


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"a 0\n\n",
        b"a 0\r\n",
        b"\xef\xbb\xbfa 0\n",
        b"a\t0\n",
        b"a  0\n",
        b" a 0\n",
        b"a\n0 b\n",
        b"a 00\n",
        b"a 1234567890\n",
        b"a x\n",
        b"a \n",
        b"/a 0\n",
        b"a/ 0\n",
        b"a//b 0\n",
        b"./a 0\n",
        b"a/../b 0\n",
        b"a\\b 0\n",
        b"a\x7f 0\n",
        b"a 0\na 1\n",
        "é 0\n".encode(),
        b"a" * 257 + b" 0\n",
    ],
)
def test_other_lists_are_not_plain(data: bytes) -> None:
    """Lists that need a correction, a message or a slower check are not accepted as plain."""
    assert find_plain_lines(data) is None


def test_lists_in_imagenets_form_are_plain() -> None:
    """ImageNet's own lists are plain, with or without a prefix and a trailing newline."""
    for data in (b"n01440764/n01440764_26.JPEG 0\nn15075141/a-b~c.JPEG 999", b"train/n1/x.JPEG 12\n"):
        entries = parse_list(data, 1000)
        assert entries.plain is not None
        prefixed = prefix_list(entries, "train")
        assert prefixed.entries.plain is not None
        assert prefixed.data == (data if data.startswith(b"train/") else b"train/" + data.replace(b"\n", b"\ntrain/"))
        assert render_list(parse_list(prefixed.data, 1000)) == prefixed.text


@settings(max_examples=500, deadline=None)
@given(entries=st.lists(_paths, min_size=1, max_size=30))
def test_repeated_paths_are_always_found(entries: list[str]) -> None:
    """These lists are plain if and only if no path is repeated and no component starts with a dot or `-`."""
    taken = find_plain_lines("".join(f"{path} 1\n" for path in entries).encode()) is not None
    has_strange = any(part[0] in ".-" for path in entries for part in path.split("/"))
    assert taken == (len(set(entries)) == len(entries) and not has_strange)


def test_repeated_paths_are_found_across_chunks(monkeypatch) -> None:
    """Repeated paths and invalid components are found across chunk boundaries."""
    monkeypatch.setattr(list_bytes, "_LINES_PER_CHUNK", 3)
    monkeypatch.setattr(list_bytes, "_BYTES_PER_CHUNK", 7)
    lines = [f"n{number}/{'x' * (number % 20)}{number} {number}" for number in range(100)]
    assert find_plain_lines("\n".join(lines).encode()) is not None
    assert find_plain_lines("\n".join([*lines, "n0/0 5"]).encode()) is None
    assert find_plain_lines("\n".join([*lines, "n5//0 5"]).encode()) is None


def test_mixed_prefixes_are_left_to_the_exact_parser() -> None:
    """Plain lists are prefixed only if all paths have the prefix or none has it."""
    mixed = find_plain_lines(b"train/a 0\nb 1\n")
    other = find_plain_lines(b"val/a 0\n")
    twice = find_plain_lines(b"train/train/a 0\n")
    swapped = find_plain_lines(b"train/val/a 0\n")
    for lines in (mixed, other, twice, swapped):
        assert lines is not None
        assert add_prefix(lines, b"train/", [b"val/"]) is None


def test_path_column_behaves_like_a_tuple() -> None:
    """A path column behaves like the tuple of its strings and can be pickled."""
    entries = parse_list(b"a/b 0\nc 1\nd 2", 10)
    paths = entries.paths
    assert isinstance(paths, PathColumn)
    assert (paths[0], paths[-1], list(paths[1:]), len(paths)) == ("a/b", "d", ["c", "d"], 3)
    assert paths == ("a/b", "c", "d")
    assert paths != ("a/b", "c")
    assert paths != "abc"
    assert tuple(pickle.loads(pickle.dumps(paths))) == ("a/b", "c", "d")  # noqa: S301 - our own data
    with pytest.raises(IndexError):
        paths[3]


# ── repeated prefixes (fault 12) ──


@settings(max_examples=300, deadline=None)
@given(paths=st.lists(_paths, min_size=1, max_size=10, unique=True), times=st.lists(st.integers(0, 3), min_size=10))
def test_repairing_is_idempotent_and_leaves_one_prefix(paths: list[str], times: list[int]) -> None:
    """Repair leaves exactly one prefix per path, for any number of `sed` runs, and a second repair changes nothing."""
    paths = [path for path in paths if not path.startswith(("train/", "val/")) and not _is_dotted(path)]
    data = "".join(f"{'train/' * times[i]}{path} {i}\n" for i, path in enumerate(paths)).encode()
    if not paths:
        return
    once = prefix_list(parse_list(data, 1000), "train", repair=True)
    assert once.text == "".join(f"train/{path} {i}\n" for i, path in enumerate(paths))
    assert once.repaired_count == sum(times[i] > 1 for i in range(len(paths)))
    assert once.added_count == sum(times[i] == 0 for i in range(len(paths)))
    twice = prefix_list(parse_list(once.data, 1000), "train", repair=True)
    assert (twice.data, twice.added_count, twice.repaired_count) == (once.data, 0, 0)


def _is_dotted(path: str) -> bool:
    return any(part in {".", ".."} for part in path.split("/"))


def test_repair_does_not_hide_swapped_lists() -> None:
    """Repair does not hide swapped lists or paths that become duplicates."""
    with pytest.raises(ListFileError, match="train/train/val/a"):
        prefix_list(parse_list(b"train/train/val/a 0\n", 10), "train", repair=True)
    with pytest.raises(ListFileError, match=r"label 1 .* 0 on line 1\b"):
        prefix_list(parse_list(b"train/train/a 0\ntrain/a 1\n", 10), "train", repair=True)


# ── against the manifest ──


@settings(max_examples=500, deadline=None)
@given(
    data=_clean, change=st.sampled_from(["none", "label", "path", "fewer", "more", "order"]), index=st.integers(0, 99)
)
def test_first_difference_from_the_manifest_is_found(data: bytes, change: str, index: int) -> None:
    """Both comparisons find the first difference between a list and a manifest, or none."""
    try:
        entries = parse_list(data, 2000)
    except ListFileError:
        return
    paths, labels = list(entries.paths), entries.labels.tolist()
    index %= len(paths)
    expected: int | None = index
    if change == "label":
        labels[index] += 1
    elif change == "path":
        paths[index] += "x"
    elif change == "fewer":
        del paths[index:], labels[index:]
    elif change == "more":
        paths.append("more")
        labels.append(0)
        expected = len(entries)
    elif change == "order" and index:
        paths[0], paths[index] = paths[index], paths[0]
        expected = 0
    else:
        expected = None
    columns = (pd.Series(paths, dtype=object).to_numpy(), np.array(labels, dtype=np.int64))
    assert find_first_difference(entries, *columns) == expected
    exact = ListEntries(tuple(entries.paths), entries.labels, ends_with_newline=entries.ends_with_newline)
    assert find_first_difference(exact, *columns) == expected


# ── bounded time ──


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        b"a",
        b"/",
        b" ",
        b"\n",
        b"a 0\n",
        b"a/",
        b"../",
        b"9",
        b"\xff",
        b"a 0",
        b"\r",
        b"train/",
        b"a " + b"9" * 999 + b"\n",
    ],
)
def test_repetitive_megabyte_is_parsed(piece: bytes) -> None:
    """A megabyte of any repeated piece is parsed. A regular expression that backtracks would take days."""
    data = piece * (1_000_000 // len(piece))
    for start in (b"", b"a 0\n"):
        read(start + data, 0, repair=True)
        read(start + data + b" 5\n", 0, repair=True)


def test_one_long_line_does_not_widen_all_others() -> None:
    """A path of a megabyte does not take a megabyte of memory for each of 100,000 other lines."""
    data = b"x" * 1_000_000 + b" 1\n" + b"".join(b"n1/%d 0\n" % number for number in range(100_000))
    assert len(parse_list(data, 10)) == 100_001


def test_list_built_from_entries_is_rendered() -> None:
    """A list built from entries is rendered like a list that was read."""
    entries = ListEntries(("train/a", "train/é"), np.array([3, 4]))
    assert PrefixedList(entries, 0).data == "train/a 3\ntrain/é 4\n".encode()
