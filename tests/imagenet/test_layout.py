"""The parts of a dataset folder are found, or reported if they are missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.layout import collect_notices, find_layout, read_lists


def test_missing_dataset_folder_is_reported(tmp_path: Path) -> None:
    """If the dataset is missing, the error includes the folder, the expected layout and the parameter."""
    with pytest.raises(DatasetNotFoundError) as raised:
        find_layout(tmp_path / "imagenet")
    message = str(raised.value)
    assert str(tmp_path / "imagenet") in message
    assert "<root>/train/n01440764/n01440764_10026.JPEG" in message
    assert "--params dataset.root=" in message


def test_a_relative_folder_is_reported_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is resolved against the project folder, which may differ from the shell's folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=f"images is missing in {tmp_path}"):
        find_layout(Path("images"))


def test_all_missing_parts_are_reported_together(digits: Path) -> None:
    """All missing folders and lists are reported in one error."""
    shutil.rmtree(digits / "val")
    (digits / "val_list.txt").unlink()
    with pytest.raises(DatasetNotFoundError) as raised:
        find_layout(digits, train_list="mistyped.txt", val_ground_truth=Path("truth.txt"))
    assert str(digits / "val") in str(raised.value)
    assert str(digits / "mistyped.txt") in str(raised.value)
    assert str(digits / "truth.txt") in str(raised.value)
    with pytest.raises(DatasetNotFoundError, match=str(digits / "val_list.txt")):
        find_layout(digits)


def test_problems_of_both_lists_are_reported_together(digits: Path) -> None:
    """Problems in both lists are reported in one error."""
    (digits / "train_list.txt").write_text("a\t0\n")
    (digits / "val_list.txt").write_text("val/val/a 0\n")
    with pytest.raises(ListFileError) as raised:
        read_lists(find_layout(digits), class_num=10)
    assert len(raised.value.problems) == 2
    assert raised.value.problems[0].startswith(f"{digits / 'train_list.txt'}:1: ")
    assert raised.value.problems[1].startswith(f"{digits / 'val_list.txt'}:1: ")


def test_lists_may_have_other_names(digits: Path) -> None:
    """List files may have other names and be in another folder."""
    (digits / "meta").mkdir()
    (digits / "train_list.txt").rename(digits / "meta/train.txt")
    layout = find_layout(digits, train_list="meta/train.txt")
    assert len(read_lists(layout, class_num=10)["train"].entries) == 40


def test_corrections_cause_notices(digits: Path) -> None:
    """Notices name the file, and count the added prefixes if only some paths had one."""
    path = digits / "train_list.txt"
    lists = read_lists(find_layout(digits), class_num=10)
    assert collect_notices(lists) == []
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"n0", b"train/n0", 1).replace(b"\n", b"\r\n"))
    notices = collect_notices(read_lists(find_layout(digits), class_num=10))
    assert [notice.split(": ")[0] for notice in notices] == [path.name] * 3
    assert "byte-order mark" in notices[0]
    assert "CRLF" in notices[1]
    assert "40 lines" in notices[1]
    assert "train/" in notices[2]
    assert "39 of 40" in notices[2]


def test_images_in_one_folder_next_to_the_lists_can_be_linked(digits: Path) -> None:
    """If all listed images are in one folder, as in Flowers102, the error contains a command that rearranges them."""
    (digits / "jpg").mkdir()
    for split in ("train", "val"):
        lines = []
        for number, line in enumerate((digits / f"{split}_list.txt").read_text().splitlines()):
            path, label = line.split(" ")
            (digits / split / path).rename(digits / "jpg" / f"{split}_{number}.jpg")
            lines.append(f"jpg/{split}_{number}.jpg {label}\n")
        (digits / f"{split}_list.txt").write_text("".join(lines))
        shutil.rmtree(digits / split)
    with pytest.raises(DatasetNotFoundError) as raised:
        find_layout(digits)
    command = str(raised.value).partition("run `")[2].partition("`")[0]
    subprocess.run(["bash", "-c", command], check=True)
    lists = read_lists(find_layout(digits), class_num=10)
    assert lists["train"].entries.paths[0] == "train/train_0.jpg"
    assert all((digits / path).is_file() for prefixed in lists.values() for path in prefixed.entries.paths)
