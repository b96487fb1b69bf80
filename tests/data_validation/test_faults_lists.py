"""Faults 1 to 21: every fault of lists and folders, planted in a real data set, and what both stages make of it.

The table that says where each of them is tested stands in test_faults.py.
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
    """Return a function that changes the first occurrence of a text in a line, 1-based."""

    def edit(lines: list[str]) -> list[str]:
        assert change[0] in lines[number - 1]
        return [line.replace(*change, 1) if index == number - 1 else line for index, line in enumerate(lines)]

    return edit


LINE_FAULTS = {
    "1 a tab": (in_line(3, (" ", "\t")), 3, r"a tab → put one space"),
    "2 no label": (in_line(3, (" 0", "")), 3, r"the label is missing → write"),
    "3 a blank middle line": (lambda lines: [*lines[:2], "", *lines[2:]], 3, r"a blank line between entries → delete"),
    "4 two spaces": (in_line(3, (" ", "  ")), 3, r"two spaces in a row → put one"),
    "4 a space in the path": (in_line(3, ("/", "/a ")), 3, r"more than one space, .* → rename the image"),
    "8 label -1": (in_line(3, (" 0", " -1")), 3, r"label -1 is outside 0\.\.9 \(class_num is 10\) → correct"),
    "8 label 1000": (in_line(3, (" 0", " 1000")), 3, r"label 1000 is outside 0\.\.9 \(class_num is 10\) → correct"),
    "8 label 1_0": (in_line(3, (" 0", " 1_0")), 3, r"label '1_0' is not a plain integer → write 0\.\.9"),
    "8 label 0.5": (in_line(3, (" 0", " 0.5")), 3, r"label '0\.5' is not a plain integer → write 0\.\.9"),
    "8 an Arabic label": (in_line(3, (" 0", " ٣")), 3, r"label '٣' is not a plain integer → write 0\.\.9"),
    "13 an absolute path": (in_line(3, ("n0", "/n0")), 3, r"an absolute path, outside the dataset root → "),
    "13 a path with ..": (in_line(3, ("/", "/../n00000000/")), 3, r"`\.\.` leads outside the dataset root → "),
    "16 a path twice": (lambda lines: [*lines, lines[0]], 41, r"also on line 1 → delete one of the two"),
    "16 a path with two labels": (
        lambda lines: [*lines, lines[0].replace(" 0", " 1")],
        41,
        r"label 1 here, but 0 on line 1 → keep the line with the right label",
    ),
}


@pytest.mark.parametrize("name", LINE_FAULTS)
def test_a_fault_of_a_line_is_told_with_file_line_and_next_step(faulty: FaultyDataset, name: str) -> None:
    """Faults 1, 2, 3, 4, 8, 13, 16: exit code 1, and one error `file:line: text → what to do`."""
    edit, line, message = LINE_FAULTS[name]
    faulty.edit_lines(edit)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    (told,) = outcome.message.splitlines()
    assert told.startswith(f"{faulty.list_path()}:{line}: ")
    assert re.search(message, told)
    assert not outcome.results.exists()


@pytest.mark.parametrize(
    ("ending", "notice"), [(b"\n", "1 blank last lines were left out"), (b"\n \n", "2 blank last lines were left out")]
)
def test_blank_last_lines_are_tolerated_and_counted(faulty: FaultyDataset, ending: bytes, notice: str) -> None:
    """Fault 3: blank last lines do no harm, and are counted in the report."""
    expected = faulty.run().prepared("train")
    faulty.edit(lambda data: data + ending)
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.report["notices"] == [f"train_list.txt: {notice}"]
    assert outcome.prepared("train") == expected


@pytest.mark.parametrize(
    ("edit", "notice"),
    [
        (lambda data: b"\xef\xbb\xbf" + data, "a byte-order mark was stripped"),
        (lambda data: data.replace(b"\n", b"\r\n"), "40 lines ended in CRLF and were normalised to LF"),
    ],
    ids=["5 byte-order mark", "6 CRLF"],
)
def test_byte_order_mark_and_crlf_are_put_right_and_noticed(faulty: FaultyDataset, edit, notice: str) -> None:
    """Faults 5, 6: the prepared list is that of the clean one, and the report says what was put right."""
    expected = faulty.run().prepared("train")
    faulty.edit(edit)
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.report["notices"] == [f"train_list.txt: {notice}"]
    assert outcome.prepared("train") == expected


@pytest.mark.parametrize(("byte", "message"), [(b"\xff", "0xff is not UTF-8"), (b"\x00", "a NUL byte")])
def test_bytes_that_are_no_text_are_told_with_their_offset(faulty: FaultyDataset, byte: bytes, message: str) -> None:
    """Fault 7: what is not UTF-8, and a NUL, are told with line and offset in the file."""
    offset = faulty.list_path().read_bytes().index(b"\n") + 11
    faulty.edit(lambda data: data[:offset] + byte + data[offset:])
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:2: byte {offset}: {message} → ", outcome.message)


def test_labels_from_one_are_told_with_the_setting_that_reads_them(faulty: FaultyDataset) -> None:
    """Fault 9: labels 1..class_num give one error, which names dataset.label_base; with it, both stages run."""
    expected = faulty.run().prepared("train")
    for split in ("train", "val"):
        faulty.edit_lines(
            lambda lines: [f"{path} {int(label) + 1}" for path, label in (line.split(" ") for line in lines)], split
        )
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert [line.split(" → ")[1] for line in outcome.message.splitlines()] == ["set dataset.label_base: 1"] * 2
    assert faulty.run(label_base=1).prepared("train") == expected


def test_a_missing_prefix_is_added_once_and_counted(faulty: FaultyDataset) -> None:
    """Fault 10: where some paths have the prefix and others not, all have it once, and the report counts."""
    expected = faulty.run().prepared("train")
    faulty.edit_lines(lambda lines: [*lines[:3], *(f"train/{line}" for line in lines[3:])])
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.prepared("train") == expected
    (notice,) = outcome.report["notices"]
    assert notice.startswith("train_list.txt: 3 of 40 paths had no train/ in front")


def test_preparing_what_was_prepared_changes_nothing(faulty: FaultyDataset) -> None:
    """Fault 11: the stage on its own lists gives them again, byte for byte."""
    first = faulty.run()
    lists = {split: first.prepared(split) for split in ("train", "val")}
    for split, data in lists.items():
        faulty.list_path(split).write_bytes(data)
    again = faulty.run()
    assert {split: again.prepared(split) for split in lists} == lists


def test_a_doubled_prefix_is_refused_or_repaired(faulty: FaultyDataset) -> None:
    """Fault 12: `sed` run twice is an error on each line, or mended and counted with dataset.repair."""
    expected = faulty.run().prepared("train")
    faulty.edit_lines(lambda lines: [f"train/train/{line}" for line in lines])
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(r"train_list\.txt:1: .* starts with train/ twice; was `sed` run twice\? → ", outcome.message)
    assert "... and 30 more" in outcome.message
    repaired = faulty.run(repair=True)
    assert repaired.exit_code == 0
    assert repaired.prepared("train") == expected
    (notice,) = repaired.report["notices"]
    assert notice.startswith("train_list.txt: 40 of 40 paths had train/ in front more than once")


def test_a_link_that_leaves_the_root_is_told_with_its_target(faulty: FaultyDataset, tmp_path: Path) -> None:
    """Fault 14: an image that lies outside by way of a link stops the run."""
    image = faulty.image()
    outside = image.rename(tmp_path / "outside.JPEG")
    image.symlink_to(outside)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:1: .* symbolic link out of the dataset root, to {outside} → ", outcome.message)


def test_a_link_in_a_circle_is_told(faulty: FaultyDataset) -> None:
    """Fault 14: so does a link that leads to itself."""
    image = faulty.image()
    image.unlink()
    image.symlink_to(image.name)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(rf"train_list\.txt:1: .* link to {image.name}, which leads in a circle → ", outcome.message)


def test_a_folder_that_is_a_circle_ends(faulty: FaultyDataset) -> None:
    """Fault 14: a linked folder that holds itself is not walked for ever."""
    (faulty.root / "train" / "n00000000" / "again").symlink_to(faulty.root / "train")
    assert faulty.run().exit_code == 0


def test_a_root_that_is_a_link_is_fine(faulty: FaultyDataset, tmp_path: Path) -> None:
    """Fault 14: the dataset root itself may be a symbolic link."""
    (tmp_path / "link").symlink_to(faulty.root)
    assert FaultyDataset(tmp_path / "link", tmp_path / "results", tmp_path / "temporary").run().exit_code == 0


@pytest.mark.parametrize("kind", ["a folder", "a FIFO", "a device"])
def test_what_is_no_file_is_told_and_never_blocks(faulty: FaultyDataset, kind: str) -> None:
    """Fault 15: a folder, FIFO or device where an image is named is told as what it is, within seconds."""
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
    assert re.search(rf"train_list\.txt:1: .*: is {kind} → ", outcome.message)


def test_one_path_in_both_lists_is_told(faulty: FaultyDataset) -> None:
    """Fault 17: a path of train/ in the list of val/ stops the run."""
    faulty.edit_lines(lambda lines: [f"train/{faulty.lines()[0]}", *lines[1:]], "val")
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(r"val_list\.txt:1: 'train/.*': belongs to another split, .* → are the two", outcome.message)


def test_one_content_in_both_splits_is_told_in_pairs(faulty: FaultyDataset) -> None:
    """Fault 17: images of val/ with the content of train/ are told with their pair, each with its line."""
    for label in (0, 1):
        shutil.copy(faulty.image("train", label), faulty.image("val", label))
    outcome = faulty.run()
    assert outcome.exit_code == 1
    pairs = re.findall(r"(val_list\.txt:\d+): .* has the content of (train_list\.txt:\d+): ", outcome.message)
    assert pairs == [("val_list.txt:1", "train_list.txt:1"), ("val_list.txt:3", "train_list.txt:5")]


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_list_is_told(faulty: FaultyDataset, split: str) -> None:
    """Fault 18: a list without an entry stops the run."""
    faulty.edit(lambda _: b"\n", split)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert outcome.message.startswith(f"{faulty.list_path(split)}: the list is empty → ")


def test_a_class_without_images_is_told(faulty: FaultyDataset) -> None:
    """Fault 19: a class that no list names stops the run."""
    for split in ("train", "val"):
        faulty.edit_lines(lambda lines: [line for line in lines if not line.endswith(" 9")], split)
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert "train_list.txt: label 9 has no image → add images of this class" in outcome.message


def test_classes_of_one_split_only_are_told_with_their_synsets(faulty: FaultyDataset) -> None:
    """Fault 19: where train/ and val/ differ in classes, the synsets of both sides are named."""
    faulty.edit_lines(lambda lines: [line for line in lines if not line.endswith(" 9")], "val")
    faulty.edit_lines(lambda lines: [line for line in lines if not line.endswith(" 8")], "train")
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert "val_list.txt: label 9 (n00000009) has images in train/, but none in val/ → " in outcome.message
    assert "val_list.txt: label 8 (n00000008) has images in val/, but none in train/ → " in outcome.message


def test_other_suffixes_and_unlisted_images_are_counted_and_listed(faulty: FaultyDataset) -> None:
    """Fault 20: .jpg, .JPG and .png beside .JPEG, and images in no list, are warnings, or block by parameter."""
    for name, data in (("a.jpg", encode()), ("b.JPG", encode(seed=1)), ("c.png", encode("L", "PNG"))):
        (faulty.root / "train" / "n00000000" / name).write_bytes(data)
    faulty.edit_lines(lambda lines: [*lines, "n00000000/a.jpg 0", "n00000000/b.JPG 0"])
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.report["statistics"]["suffixes"] == {".JPEG": 60, ".JPG": 1, ".jpg": 1, ".png": 1}
    assert [line.split(": ")[0] for line in outcome.problems("names_end_in_jpeg")] == [
        "train_list.txt:41",
        "train_list.txt:42",
    ]
    assert outcome.problems("no_unlisted_images") == [
        "train/n00000000/c.png: is in no list → add a line for it, or delete it"
    ]
    blocked = faulty.run(blocking=(*BLOCKING, "no_unlisted_images"))
    assert blocked.exit_code == 1
    assert "train/n00000000/c.png: is in no list → " in blocked.message


def test_a_val_list_with_permuted_labels_is_told(faulty: FaultyDataset) -> None:
    """Fault 21: labels that disagree with the folders' synsets stop the run, on every line."""
    faulty.edit_lines(
        lambda lines: [f"{path} {9 - int(label)}" for path, label in (line.split(" ") for line in lines)], "val"
    )
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert re.search(
        r"val_list\.txt:1: .* label 9, but train images of n00000000 have label 0 → .* another order", outcome.message
    )
    assert "... and 10 more" in outcome.message
    full_list = Path(outcome.message.splitlines()[-1].removeprefix("full list: "))
    assert len(full_list.read_text().splitlines()) == 20
