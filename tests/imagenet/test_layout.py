"""The parts of a dataset folder: found, or named when they are missing."""

import shutil
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.layout import describe_lists, find_layout, read_lists


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error names the folder, the layout that is expected, and the setting."""
    with pytest.raises(DatasetNotFoundError) as raised:
        find_layout(tmp_path / "imagenet")
    message = str(raised.value)
    assert f"{tmp_path / 'imagenet'} is not there" in message
    assert "<root>/train/n01440764/n01440764_10026.JPEG" in message
    assert "--params dataset.root=" in message


def test_every_missing_part_is_named(digits: Path) -> None:
    """A missing split folder and lists that are missing and cannot be made come in one error."""
    shutil.rmtree(digits / "val")
    (digits / "val_list.txt").unlink()
    with pytest.raises(DatasetNotFoundError) as raised:
        find_layout(digits, train_list="mistyped.txt", val_ground_truth=Path("truth.txt"))
    assert f"the folder {digits / 'val'} is missing" in str(raised.value)
    assert f"the list file {digits / 'mistyped.txt'} is missing" in str(raised.value)
    assert f"the file {digits / 'truth.txt'} is missing" in str(raised.value)
    with pytest.raises(DatasetNotFoundError, match=f"the list file {digits / 'val_list.txt'} is missing"):
        find_layout(digits)


def test_problems_of_both_lists_come_in_one_error(digits: Path) -> None:
    """A fault in each list is told at once."""
    (digits / "train_list.txt").write_text("a\t0\n")
    (digits / "val_list.txt").write_text("val/val/a 0\n")
    with pytest.raises(ListFileError) as raised:
        read_lists(find_layout(digits), class_num=10)
    assert len(raised.value.problems) == 2
    assert raised.value.problems[0].startswith(f"{digits / 'train_list.txt'}:1: ")
    assert raised.value.problems[1].startswith(f"{digits / 'val_list.txt'}:1: ")


def test_lists_may_have_other_names(digits: Path) -> None:
    """The names of the list files are settings, also in a folder of their own."""
    (digits / "meta").mkdir()
    (digits / "train_list.txt").rename(digits / "meta/train.txt")
    layout = find_layout(digits, train_list="meta/train.txt")
    assert len(read_lists(layout, class_num=10)["train"].entries) == 40


def test_what_was_put_right_is_described(digits: Path) -> None:
    """Notices name the file; prefixes are counted where only some were missing, and are no news where all were."""
    path = digits / "train_list.txt"
    lists = read_lists(find_layout(digits), class_num=10)
    assert describe_lists(lists) == []
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"n0", b"train/n0", 1).replace(b"\n", b"\r\n"))
    notices = describe_lists(read_lists(find_layout(digits), class_num=10))
    assert notices == [
        f"{path.name}: a byte-order mark was stripped",
        f"{path.name}: 40 lines ended in CRLF and were normalised to LF",
        f"{path.name}: 39 of 40 paths had no train/ in front, the others had; it was added where it was missing",
    ]
