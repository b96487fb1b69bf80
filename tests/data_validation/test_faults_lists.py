"""Faults 1 to 21: faults in the lists and folders of a dataset, as reported by the data_* pipelines.

The table in test_faults.py lists the tests for each fault.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from faulty_dataset import BLOCKING, FaultyDataset, encode

pytestmark = pytest.mark.timeout(60)


def in_line(number: int, change: tuple[str, str]):
    """Return a function that replaces the first occurrence of a string in line `number` (1-based)."""

    def edit(lines: list[str]) -> list[str]:
        assert change[0] in lines[number - 1]
        return [line.replace(*change, 1) if index == number - 1 else line for index, line in enumerate(lines)]

    return edit


LINE_FAULTS = {
    "1 a tab": (in_line(3, (" ", "\t")), 3, r"n00000000_.*→ "),
    "2 no label": (in_line(3, (" 0", "")), 3, r"n00000000_.*→ "),
    "3 a blank middle line": (lambda lines: [*lines[:2], "", *lines[2:]], 3, r" → "),
    "4 two spaces": (in_line(3, (" ", "  ")), 3, r"n00000000_.*→ "),
    "4 a space in the path": (in_line(3, ("/", "/a ")), 3, r"a n00000000_.*→ "),
    "8 label -1": (in_line(3, (" 0", " -1")), 3, r" -1 .*0\.\.9 .*10.* → "),
    "8 label 1000": (in_line(3, (" 0", " 1000")), 3, r" 1000 .*0\.\.9 .*10.* → "),
    "8 label 1_0": (in_line(3, (" 0", " 1_0")), 3, r"'1_0'.* → .*0\.\.9"),
    "8 label 0.5": (in_line(3, (" 0", " 0.5")), 3, r"'0\.5'.* → .*0\.\.9"),
    "8 an Arabic label": (in_line(3, (" 0", " ٣")), 3, r"'٣'.* → .*0\.\.9"),
    "13 an absolute path": (in_line(3, ("n0", "/n0")), 3, r"/n00000000/.* → "),
    "13 a path with ..": (in_line(3, ("/", "/../n00000000/")), 3, r"\.\./n00000000/.* → "),
    "16 a path twice": (lambda lines: [*lines, lines[0]], 41, r"line 1\b.* → "),
    "16 a path with two labels": (
        lambda lines: [*lines, lines[0].replace(" 0", " 1")],
        41,
        r"label 1\b.* 0 .*line 1\b.* → ",
    ),
}


@pytest.mark.parametrize("name", LINE_FAULTS)
def test_a_fault_of_a_line_is_reported_with_its_file_and_line(faulty: FaultyDataset, name: str) -> None:
    """Faults 1, 2, 3, 4, 8, 13, 16: the exit code is 1, and there is one error `file:line: problem → next step`."""
    edit, line, message = LINE_FAULTS[name]
    faulty.edit_lines(edit)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    (error,) = outcome.message.splitlines()
    assert error.startswith(f"{faulty.list_path()}:{line}: ")
    assert re.search(message, error)
    assert not outcome.results.exists()


@pytest.mark.parametrize(("ending", "count"), [(b"\n", 1), (b"\n \n", 2)])
def test_blank_last_lines_are_ignored_and_counted(faulty: FaultyDataset, ending: bytes, count: int) -> None:
    """Fault 3: blank lines at the end are ignored, and the report counts them."""
    expected = faulty.run().prepared("train")
    faulty.edit(lambda data: data + ending)
    outcome = faulty.run()
    assert outcome.exit_code == 0
    (notice,) = outcome.report["notices"]
    assert notice.startswith(f"train_list.txt: ignored {count} ")
    assert outcome.prepared("train") == expected


@pytest.mark.parametrize(
    ("edit", "value"),
    [
        (lambda data: b"\xef\xbb\xbf" + data, "byte-order mark"),
        (lambda data: data.replace(b"\n", b"\r\n"), "40 "),
    ],
    ids=["5 byte-order mark", "6 CRLF"],
)
def test_byte_order_mark_and_crlf_are_repaired_with_a_notice(faulty: FaultyDataset, edit, value: str) -> None:
    """Faults 5, 6: the prepared list equals the one for the clean list, and the report contains a notice."""
    expected = faulty.run().prepared("train")
    faulty.edit(edit)
    outcome = faulty.run()
    assert outcome.exit_code == 0
    (notice,) = outcome.report["notices"]
    assert notice.startswith("train_list.txt: ")
    assert value in notice
    assert outcome.prepared("train") == expected


@pytest.mark.parametrize(("byte", "message"), [(b"\xff", "0xff"), (b"\x00", "NUL")])
def test_invalid_bytes_are_reported_with_their_offset(faulty: FaultyDataset, byte: bytes, message: str) -> None:
    """Fault 7: a NUL byte or a byte that is not UTF-8 is reported with its line and file offset."""
    offset = faulty.list_path().read_bytes().index(b"\n") + 11
    faulty.edit(lambda data: data[:offset] + byte + data[offset:])
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:2: byte {offset}\b.*{message}.* → ", outcome.message)


def test_labels_from_one_are_reported_with_the_setting(faulty: FaultyDataset) -> None:
    """Fault 9: labels 1..class_num cause one error per list, which mentions dataset.label_base."""
    expected = faulty.run().prepared("train")
    for split in ("train", "val"):
        faulty.edit_lines(
            lambda lines: [f"{path} {int(label) + 1}" for path, label in (line.split(" ") for line in lines)], split
        )
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert ["dataset.label_base: 1" in line.split(" → ")[1] for line in outcome.message.splitlines()] == [True] * 2
    assert faulty.run(label_base=1).prepared("train") == expected


def test_a_missing_prefix_is_added_once_and_counted(faulty: FaultyDataset) -> None:
    """Fault 10: if only some paths have the prefix, it is added to the others, and the report counts them."""
    expected = faulty.run().prepared("train")
    faulty.edit_lines(lambda lines: [*lines[:3], *(f"train/{line}" for line in lines[3:])])
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.prepared("train") == expected
    (notice,) = outcome.report["notices"]
    assert notice.startswith("train_list.txt: ")
    assert re.findall(r"\d+", notice) == ["3", "40"]


def test_preparing_prepared_lists_changes_nothing(faulty: FaultyDataset) -> None:
    """Fault 11: if the stage runs on its own lists, it reproduces them byte for byte."""
    first = faulty.run()
    lists = {split: first.prepared(split) for split in ("train", "val")}
    for split, data in lists.items():
        faulty.list_path(split).write_bytes(data)
    again = faulty.run()
    assert {split: again.prepared(split) for split in lists} == lists


def test_a_doubled_prefix_is_rejected_or_repaired(faulty: FaultyDataset) -> None:
    """Fault 12: running `sed` twice causes an error for each line, and dataset.repair repairs and counts the lines."""
    expected = faulty.run().prepared("train")
    faulty.edit_lines(lambda lines: [f"train/train/{line}" for line in lines])
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(r"train_list\.txt:1: .*train/train/.* → ", outcome.message)
    assert "30 more" in outcome.message
    repaired = faulty.run(repair=True)
    assert repaired.exit_code == 0
    assert repaired.prepared("train") == expected
    (notice,) = repaired.report["notices"]
    assert "40 of 40 paths" in notice


def test_a_link_out_of_the_root_is_reported_with_its_target(faulty: FaultyDataset, tmp_path: Path) -> None:
    """Fault 14: a link to an image outside the dataset root stops the run."""
    image = faulty.image()
    outside = image.rename(tmp_path / "outside.JPEG")
    image.symlink_to(outside)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:1: .* {outside}.* → ", outcome.message)


def test_a_circular_link_is_reported(faulty: FaultyDataset) -> None:
    """Fault 14: a link to itself stops the run."""
    image = faulty.image()
    image.unlink()
    image.symlink_to(image.name)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:1: .* {image.name}.* → ", outcome.message)


def test_a_circular_folder_is_not_walked_forever(faulty: FaultyDataset) -> None:
    """Fault 14: the scan terminates even if a folder contains a link to its parent."""
    (faulty.root / "train" / "n00000000" / "again").symlink_to(faulty.root / "train")
    assert faulty.run().exit_code == 0


def test_the_root_may_be_a_link(faulty: FaultyDataset, tmp_path: Path) -> None:
    """Fault 14: the dataset root itself may be a symbolic link."""
    (tmp_path / "link").symlink_to(faulty.root)
    assert FaultyDataset(tmp_path / "link", tmp_path / "results", tmp_path / "temporary").run().exit_code == 0


@pytest.mark.parametrize("kind", ["a folder", "a FIFO", "a device"])
def test_special_files_are_reported_without_blocking(faulty: FaultyDataset, kind: str) -> None:
    """Fault 15: a folder, FIFO or device at the path of an image is reported within seconds."""
    image = faulty.image()
    image.unlink()
    if kind == "a folder":
        image.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(image)
    else:
        image.symlink_to("/dev/zero")
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:1: .*{kind}.* → ", outcome.message)


def test_one_path_in_both_lists_is_reported(faulty: FaultyDataset) -> None:
    """Fault 17: a train path in the val list stops the run."""
    faulty.edit_lines(lambda lines: [f"train/{faulty.lines()[0]}", *lines[1:]], "val")
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(r"val_list\.txt:1: 'train/.*' .* → ", outcome.message)


def test_the_same_content_in_both_splits_is_reported_in_pairs(faulty: FaultyDataset) -> None:
    """Fault 17: a val image with the same content as a training image is reported with the lines of both."""
    for label in (0, 1):
        shutil.copy(faulty.image("train", label), faulty.image("val", label))
    outcome = faulty.run()
    assert outcome.exit_code == 1
    pairs = re.findall(r"(val_list\.txt:\d+): .* (train_list\.txt:\d+): ", outcome.message)
    assert pairs == [("val_list.txt:1", "train_list.txt:1"), ("val_list.txt:3", "train_list.txt:5")]


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_list_is_reported(faulty: FaultyDataset, split: str) -> None:
    """Fault 18: a list without entries stops the run."""
    faulty.edit(lambda _: b"\n", split)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert outcome.message.startswith(f"{faulty.list_path(split)}: ")


def test_a_class_without_images_is_reported(faulty: FaultyDataset) -> None:
    """Fault 19: a class without images in both lists stops the run."""
    for split in ("train", "val"):
        faulty.edit_lines(lambda lines: [line for line in lines if not line.endswith(" 9")], split)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert "train_list.txt: label 9 " in outcome.message


def test_classes_in_one_split_are_reported_with_their_synsets(faulty: FaultyDataset) -> None:
    """Fault 19: if train/ and val/ have different classes, the synsets of classes in only one split are reported."""
    faulty.edit_lines(lambda lines: [line for line in lines if not line.endswith(" 9")], "val")
    faulty.edit_lines(lambda lines: [line for line in lines if not line.endswith(" 8")], "train")
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert "val_list.txt: label 9 (n00000009) " in outcome.message
    assert "val_list.txt: label 8 (n00000008) " in outcome.message


def test_other_extensions_and_unlisted_images_are_counted_and_listed(faulty: FaultyDataset) -> None:
    """Fault 20: .jpg, .JPG and .png files and unlisted images cause warnings, or errors if so configured."""
    for name, data in (("a.jpg", encode()), ("b.JPG", encode(seed=1)), ("c.png", encode("L", "PNG"))):
        (faulty.root / "train" / "n00000000" / name).write_bytes(data)
    faulty.edit_lines(lambda lines: [*lines, "n00000000/a.jpg 0", "n00000000/b.JPG 0"])
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.report["statistics"]["suffixes"] == {".JPEG": 60, ".JPG": 1, ".jpg": 1, ".png": 1}
    found = {line.split(": ")[0] for line in outcome.problems("names_end_in_jpeg")}
    assert found == {"train_list.txt:41", "train_list.txt:42"}
    (unlisted,) = outcome.problems("no_unlisted_images")
    assert unlisted.startswith("train/n00000000/c.png ")
    blocked = faulty.run(blocking=(*BLOCKING, "no_unlisted_images"))
    assert blocked.exit_code == 1
    assert "train/n00000000/c.png " in blocked.message


def test_permuted_val_labels_are_reported(faulty: FaultyDataset) -> None:
    """Fault 21: labels that contradict the class folders stop the run with one problem per line."""
    faulty.edit_lines(
        lambda lines: [f"{path} {9 - int(label)}" for path, label in (line.split(" ") for line in lines)], "val"
    )
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(r"val_list\.txt:1: .* label 9\b.* n00000000 .*label 0 → ", outcome.message)
    assert "10 more" in outcome.message
    full_list = Path(outcome.message.splitlines()[-1].removeprefix("full list: "))
    problems = [line for line in full_list.read_text().splitlines() if not line.startswith("#")]
    assert len(problems) == 20
