"""Every layout is recognized, with the labels from its files or folders."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from image_folders import CLASSES, add_system_files, write_class_folders, write_image

from resnet50_pipeline.adoption.found import FoundDataset
from resnet50_pipeline.adoption.labels_in_files import Choices
from resnet50_pipeline.adoption.layouts import recognize
from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError


def rows(found: FoundDataset, split: str = "train") -> dict[str, str]:
    """Return {path: class} of a split."""
    return {image.path: found.classes[image.label].key for image in found.splits[split]}


def keys(found: FoundDataset) -> list[str]:
    """Return the short names of the classes, by label."""
    return [one.key for one in found.classes]


def write_table(path: Path, header: str, lines: list[list[object]], delimiter: str = ",") -> None:
    """Write a table, with the header's columns separated by commas in `header`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header.split(","), *lines])


def test_class_folders_without_a_split(tmp_path):
    """Folders whose names contain spaces, quotes, `#` or non-ASCII characters are classes, sorted as text.

    System files are ignored.
    """
    write_class_folders(tmp_path)
    add_system_files(tmp_path)
    found = recognize(tmp_path)
    assert keys(found) == sorted(CLASSES)
    assert set(found.splits) == {"train"}
    assert found.parameters is None
    assert rows(found) == {f"{name}/Bild {image} ü.png": name for name in CLASSES for image in range(5)}


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", "valid"), ("training", "validation"), ("Train", "Val"), ("train.X1", "val.X"), ("train_set", "dev")],
)
def test_names_of_split_folders(tmp_path, train, val):
    """The folders of train and val may have any of the common names."""
    write_class_folders(tmp_path / train)
    write_class_folders(tmp_path / val, images=2, start=500)
    found = recognize(tmp_path)
    assert keys(found) == sorted(CLASSES)
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 15, "val": 6}
    assert rows(found, "val")[f"{val}/été/Bild 1 ü.png"] == "été"


def test_parts_of_a_split_are_merged(tmp_path):
    """Kaggle's ImageNet-100 keeps train in several folders."""
    write_class_folders(tmp_path / "train.X1", ["a", "b"])
    write_class_folders(tmp_path / "train.X2", ["c"], start=7000)
    write_class_folders(tmp_path / "val.X", ["a", "b", "c"], images=1, start=500)
    found = recognize(tmp_path)
    assert keys(found) == ["a", "b", "c"]
    assert len(found.splits["train"]) == 15


def test_train_and_test_only(tmp_path):
    """A test folder is the test split; val must be split off from train."""
    write_class_folders(tmp_path / "train")
    write_class_folders(tmp_path / "test", images=2, start=500)
    assert set(recognize(tmp_path).splits) == {"train", "test"}


def test_three_split_folders(tmp_path):
    """All three splits are found. Images outside class folders are counted but not used."""
    for number, split in enumerate(("train", "val", "test")):
        write_class_folders(tmp_path / split, images=2, start=100 * number)
    write_image(tmp_path / "test" / "loose.png", 9)
    write_class_folders(tmp_path / "train" / "été" / "deeper", ["one"], images=1, start=800)
    found = recognize(tmp_path)
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 7, "val": 6, "test": 6}
    assert any("1 image without a class (1 in test)" in note for note in found.notes)


def test_imagenet_layout_needs_no_lists(tmp_path):
    """The project reads train/ and val/ with class folders as they are; names come from synset_words.txt."""
    write_class_folders(tmp_path / "train", ["n01", "n02"])
    write_class_folders(tmp_path / "val", ["n01", "n02"], images=1, start=500)
    (tmp_path / "synset_words.txt").write_text("n01 tench\nn02 goldfish, Carassius auratus\n")
    found = recognize(tmp_path)
    assert found.parameters == {}
    assert [one.name for one in found.classes] == ["tench", "goldfish, Carassius auratus"]


def test_imagenet_layout_with_lists_keeps_their_labels(tmp_path):
    """Labels in existing lists take precedence over the order of the folders, even if the labels start at 1."""
    write_class_folders(tmp_path / "train", ["a", "b"], images=1)
    write_class_folders(tmp_path / "val", ["a", "b"], images=1, start=500)
    for split in ("train", "val"):
        (tmp_path / f"{split}_list.txt").write_text("a/Bild 0 ü.png\t2\nb/Bild 0 ü.png\t1\n")
    found = recognize(tmp_path)
    assert found.parameters == {"label_base": 1}
    assert keys(found) == ["b", "a"]
    assert rows(found, "val") == {"val/a/Bild 0 ü.png": "a", "val/b/Bild 0 ü.png": "b"}


def test_flat_val_with_ground_truth(tmp_path):
    """The classes of a flat val/ come from Kaggle's solution file."""
    write_class_folders(tmp_path / "train", ["n01", "n02"])
    for number in (1, 2):
        write_image(tmp_path / "val" / f"ILSVRC2012_val_0000000{number}.JPEG", number)
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n02 1 2 3 4\nILSVRC2012_val_00000002,n01 1 2 3 4\n"
    )
    found = recognize(tmp_path)
    assert found.parameters == {"val_ground_truth": "LOC_val_solution.csv"}
    assert rows(found, "val")["val/ILSVRC2012_val_00000001.JPEG"] == "n02"


def test_tiny_imagenet(tmp_path):
    """Train images are below <class>/images, and val's classes are in val_annotations.txt."""
    for number, name in enumerate(("n01", "n02")):
        for image in range(3):
            write_image(tmp_path / f"train/{name}/images/{name}_{image}.JPEG", 10 * number + image)
        (tmp_path / f"train/{name}/{name}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t62\t62\n")
    for image in range(2):
        write_image(tmp_path / f"val/images/val_{image}.JPEG", 90 + image)
    write_image(tmp_path / "test/images/test_0.JPEG", 99)
    (tmp_path / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    (tmp_path / "words.txt").write_text("n01\ttench\nn02\tgoldfish\nn03\tshark\n")
    found = recognize(tmp_path)
    assert found.layout == "Tiny-ImageNet"
    assert [(one.key, one.name) for one in found.classes] == [("n01", "tench"), ("n02", "goldfish")]
    assert rows(found, "val") == {"val/images/val_0.JPEG": "n02", "val/images/val_1.JPEG": "n01"}
    assert len(found.splits["train"]) == 6
    assert "test" not in found.splits


@pytest.mark.parametrize("delimiter", [" ", "\t"])
@pytest.mark.parametrize("name", ["image_{}.jpg", "mit Leerzeichen {} ü.jpg"])
def test_paddleclas_lists(tmp_path, delimiter, name):
    """Lists with a space or a tab may refer to images in any folder, and their labels are kept."""
    for number in range(4):
        write_image(tmp_path / "jpg" / name.format(number), number)
    names = [f"jpg/{name.format(number)}" for number in range(4)]
    (tmp_path / "train_list.txt").write_text(
        "".join(f"{n}{delimiter}{v}\n" for n, v in zip(names[:3], (2, 0, 1), strict=True))
    )
    (tmp_path / "val_list.txt").write_text(f"{names[3]}{delimiter}2\n")
    (tmp_path / "flowers_label_list.txt").write_text("0 pink primrose\n1 canterbury bells\n2 sweet pea\n")
    found = recognize(tmp_path)
    assert [image.label for image in found.splits["train"]] == [2, 0, 1]
    assert keys(found) == ["pink primrose", "canterbury bells", "sweet pea"]
    assert rows(found, "val") == {names[3]: "sweet pea"}


def test_lists_with_labels_from_1(tmp_path):
    """Labels 1 to N become 0 to N - 1, and a note says so."""
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", number)
    (tmp_path / "train_list.txt").write_text("0.jpg 1\n1.jpg 2\n2.jpg 3\n")
    found = recognize(tmp_path)
    assert [image.label for image in found.splits["train"]] == [0, 1, 2]
    assert keys(found) == ["1", "2", "3"]
    assert any("start at 1" in note for note in found.notes)


def test_an_invalid_list_is_an_error(tmp_path):
    """A list whose lines have no label is reported with the line number."""
    write_image(tmp_path / "0.jpg", 0)
    (tmp_path / "train_list.txt").write_text("0.jpg\n")
    with pytest.raises(ListFileError, match=r"train_list\.txt:1"):
        recognize(tmp_path)


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_tables_with_names(tmp_path, suffix, delimiter):
    """A table may have its image and class columns in any order, with any delimiter."""
    lines = []
    for number in range(6):
        write_image(tmp_path / "Bilder alle" / f"Bild {number} ü.png", number)
        lines.append([f"p{number // 2}", CLASSES[number % 3], f"Bilder alle/Bild {number} ü.png"])
    write_table(tmp_path / f"labels.{suffix}", "patient,class,file", lines, delimiter)
    found = recognize(tmp_path, Choices(group_by="patient"))
    assert keys(found) == sorted(CLASSES)
    assert rows(found)["Bilder alle/Bild 4 ü.png"] == CLASSES[1]
    assert [image.group for image in found.splits["train"]] == ["p0", "p0", "p1", "p1", "p2", "p2"]


def test_tables_with_ids_and_numbers(tmp_path):
    """Kaggle's tables omit the images' folder and suffix. Numbers are labels, with names in classes.txt."""
    for number in range(4):
        write_image(tmp_path / "train" / f"{number:04}.jpg", number)
    write_table(tmp_path / "train.csv", "id,label", [[f"{number:04}", number % 2] for number in range(4)])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = recognize(tmp_path)
    assert rows(found) == {f"train/{number:04}.jpg": ("cat", "dog")[number % 2] for number in range(4)}


def test_a_split_column_is_used(tmp_path):
    """A `split` column determines the split of each row."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    splits = ["train", "train", "valid", "TEST"]
    write_table(tmp_path / "all.csv", "path,label,split", [[f"{n}.jpg", "ab"[n % 2], splits[n]] for n in range(4)])
    assert {split: len(part) for split, part in recognize(tmp_path).splits.items()} == {"train": 2, "val": 1, "test": 1}


def test_the_label_column_can_be_chosen(tmp_path):
    """If several columns could contain the label, the error names them, and --label-column chooses one."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    write_table(tmp_path / "all.csv", "path,shape,color", [[f"{n}.jpg", "xy"[n % 2], "rg"[n // 2]] for n in range(4)])
    with pytest.raises(DatasetNotFoundError, match=r"shape, color.*--label-column"):
        recognize(tmp_path)
    assert keys(recognize(tmp_path, Choices(label_column="color"))) == ["g", "r"]
    with pytest.raises(DatasetError, match=r"weight.*shape"):
        recognize(tmp_path, Choices(label_column="weight"))


def test_rows_without_an_image_are_skipped_and_counted(tmp_path):
    """Rows without an image are counted in a note; an image in two rows is an error."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    lines: list[list[object]] = [[f"{number}.jpg", "ab"[number % 2]] for number in range(4)]
    write_table(tmp_path / "all.csv", "path,label", [*lines, ["gone.jpg", "a"]])
    found = recognize(tmp_path)
    assert len(found.splits["train"]) == 4
    assert any("gone.jpg" in note for note in found.notes)
    write_table(tmp_path / "all.csv", "path,label", [*lines, ["0.jpg", "b"]])
    with pytest.raises(DatasetError, match=r"0\.jpg"):
        recognize(tmp_path)


@pytest.mark.parametrize("folders", [("",), ("train", "validation")])
def test_hugging_face_metadata(tmp_path, folders):
    """metadata.csv may be in the dataset folder or in each split's folder."""
    for start, folder in enumerate(folders):
        lines = []
        for number in range(3):
            write_image(tmp_path / folder / f"{number}.png", 10 * start + number)
            lines.append([f"{number}.png", "ab"[number % 2]])
        write_table(tmp_path / folder / "metadata.csv", "file_name,label", lines)
    found = recognize(tmp_path)
    assert set(found.splits) == ({"train"} if folders == ("",) else {"train", "val"})
    assert keys(found) == ["a", "b"]
    if len(folders) > 1:
        assert rows(found, "val")["validation/1.png"] == "b"


def test_captions_are_not_labels(tmp_path):
    """A metadata.csv with captions does not replace the class folders."""
    write_class_folders(tmp_path, images=6)
    lines = [[f"{name}/Bild {n} ü.png", f"a photo {name} {n}"] for name in CLASSES for n in range(6)]
    write_table(tmp_path / "metadata.csv", "file_name,text", lines)
    assert recognize(tmp_path).layout == "class folders without a split"


@pytest.mark.parametrize("with_val", [False, True])
def test_numeric_class_folders_are_ordered_by_number(tmp_path, with_val):
    """Class folders 0 to 10 get the labels 0 to 10, and a note says so."""
    names = [str(number) for number in range(11)]
    write_class_folders(tmp_path / ("train" if with_val else ""), names, images=1)
    if with_val:
        write_class_folders(tmp_path / "val", names, images=1, start=500)
    found = recognize(tmp_path)
    assert keys(found) == names
    assert found.parameters is None
    assert any("numeric order" in note for note in found.notes)


def test_classes_txt_orders_the_folders(tmp_path):
    """A classes.txt determines the labels of class folders."""
    write_class_folders(tmp_path, ["a", "b", "c"], images=1)
    (tmp_path / "classes.txt").write_text("c\na\nb\n")
    assert keys(recognize(tmp_path)) == ["c", "a", "b"]


def test_groups_from_the_path(tmp_path):
    """--group-by uses the first group of the expression. An expression without matches is an error."""
    write_class_folders(tmp_path, ["a", "b"], images=3)
    groups = {image.group for image in recognize(tmp_path, Choices(group_by=r"Bild (\d)")).splits["train"]}
    assert groups == {"0", "1", "2"}
    with pytest.raises(DatasetError, match="--group-by patient"):
        recognize(tmp_path, Choices(group_by="patient"))
    with pytest.raises(DatasetError, match="regular expression"):
        recognize(tmp_path, Choices(group_by="("))


def test_an_unknown_layout_error_suggests_the_next_step(tmp_path):
    """The error states what was expected, what was found, and what to do."""
    with pytest.raises(DatasetNotFoundError, match="missing"):
        recognize(tmp_path / "nowhere")
    (tmp_path / "scan.dcm").write_bytes(b"x")
    with pytest.raises(DatasetNotFoundError, match=r"no images.*1 \.dcm"):
        recognize(tmp_path)
    write_image(tmp_path / "1.jpg", 1)
    with pytest.raises(
        DatasetNotFoundError, match=r"(?s)one folder per class.*Found 1 image: 1 directly in the folder"
    ):
        recognize(tmp_path)
    write_class_folders(tmp_path / "below" / "images")
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(DatasetNotFoundError, match=rf"kedro adopt {tmp_path}/below/images"):
        recognize(tmp_path / "below")


def test_an_image_in_two_splits_is_an_error(tmp_path):
    """An image in two lists is reported with both splits."""
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", number)
    (tmp_path / "train_list.txt").write_text("0.jpg 0\n1.jpg 1\n")
    (tmp_path / "val_list.txt").write_text("1.jpg 1\n2.jpg 0\n")
    with pytest.raises(DatasetError, match=r"1\.jpg .*train.*val"):
        recognize(tmp_path)


def test_files_of_other_programs_do_not_hide_the_folders(tmp_path):
    """A train.txt without labels and a table in another encoding are skipped if the folders determine the labels."""
    write_class_folders(tmp_path)
    (tmp_path / "train.txt").write_text("some/where.jpg\n")
    (tmp_path / "notes.csv").write_bytes("stra\xdfe,b\n1,2\n".encode("latin-1"))
    assert recognize(tmp_path).layout == "class folders without a split"


@pytest.mark.parametrize("label", ["label", "id"])
def test_a_missing_image_is_not_replaced_by_one_with_the_same_name(tmp_path, label):
    """A row whose folder exists never refers to an image elsewhere."""
    write_image(tmp_path / "rose" / "1.jpg", 1)
    write_image(tmp_path / "tulip" / "2.jpg", 2)
    names = [("rose/1.jpg", 0), ("rose/2.jpg", 0), ("tulip/2.jpg", 1)]
    if label == "label":
        (tmp_path / "train_list.txt").write_text("".join(f"{path} {number}\n" for path, number in names))
    else:
        write_table(tmp_path / "all.csv", "path,label", [[path.removesuffix(".jpg"), n] for path, n in names])
    found = recognize(tmp_path)
    assert {image.path: image.label for image in found.splits["train"]} == {"rose/1.jpg": 0, "tulip/2.jpg": 1}
    assert any("rose/2" in note for note in found.notes)


@pytest.mark.parametrize("form", ["{}.png", "train/{}.png", "birds/train/{}.png", "/mnt/birds/train/{}"])
def test_paths_in_a_table_in_a_subfolder(tmp_path, form):
    """Paths are relative to the table or to the dataset folder, and may start with that folder's name."""
    root = tmp_path / "birds"
    for number in range(4):
        write_image(root / "train" / f"{number}.png", number)
        write_image(root / "other" / f"{number}.png", number)
    write_table(root / "train" / "metadata.csv", "file_name,label", [[form.format(n), "ab"[n % 2]] for n in range(4)])
    assert rows(recognize(root)) == {f"train/{n}.png": "ab"[n % 2] for n in range(4)}


@pytest.mark.parametrize("form", ["/kaggle/input/x/{}.jpg", "C:\\data\\{}.jpg", "images/{}.jpg"])
def test_paths_of_another_machine(tmp_path, form):
    """If all images are in one folder, the folders in a table do not matter."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    write_table(tmp_path / "all.csv", "path,label", [[form.format(n), "ab"[n % 2]] for n in range(4)])
    assert rows(recognize(tmp_path)) == {f"{n}.jpg": "ab"[n % 2] for n in range(4)}


@pytest.mark.parametrize(
    ("header", "lines", "named"),
    [
        ("0.jpg,a", ["1.jpg,b", "2.jpg,a", "3.jpg,b"], "header"),
        ("path,label,label", ["0.jpg,a,b", "1.jpg,b,b", "2.jpg,a,a"], "label"),
        ("path,label,split", ["0.jpg,a,train", "1.jpg,b,train", "2.jpg,a,holdout", "3.jpg,b,val"], "'holdout'"),
        ("path,label,split", ["0.jpg,a,val", "1.jpg,b,val", "2.jpg,a,test"], "train"),
        ("path,label", ["0.jpg,a", "1.jpg,a", "2.jpg,a"], "class a"),
        ("path,label", ["0.jpg,1", "1.jpg,1", "2.jpg,202401"], "202401"),
        ("path,label", ["0.jpg,a", "1.jpg,b", f'2.jpg,"{"x" * 200_000}"'], r"all\.csv:4: field"),
    ],
)
def test_a_table_that_could_be_misread_is_an_error(tmp_path, header, lines, named):
    """If a table's header, splits or labels are ambiguous, no rows are dropped or guessed."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    (tmp_path / "all.csv").write_text("\n".join([header, *lines]))
    with pytest.raises(DatasetError, match=named):
        recognize(tmp_path)


def test_a_table_for_val_only_adds_a_split(tmp_path):
    """Next to a val.csv, a table without a split belongs to train."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    write_table(tmp_path / "labels.csv", "path,label", [["0.jpg", "a"], ["1.jpg", "b"]])
    write_table(tmp_path / "val.csv", "path,label", [["2.jpg", "a"], ["3.jpg", "b"]])
    assert rows(recognize(tmp_path), "val") == {"2.jpg": "a", "3.jpg": "b"}


@pytest.mark.parametrize(
    ("form", "expected"), [("{}.0", [2, 10, 0, 1]), ("-{}", [7, 0, 9, 8])], ids=["floats", "negative"]
)
def test_numbers_are_ordered_as_numbers(tmp_path, form, expected):
    """Labels written by pandas as 2.0 are read as 2. Negative numbers are class names, sorted numerically."""
    labels = [2, 10, 0, 1, 3, 4, 5, 6, 7, 8]
    for number in range(10):
        write_image(tmp_path / f"i{number}.jpg", number)
    write_table(tmp_path / "all.csv", "path,label", [[f"i{n}.jpg", form.format(labels[n])] for n in range(10)])
    label_of = {image.path: image.label for image in recognize(tmp_path).splits["train"]}
    assert [label_of[f"i{number}.jpg"] for number in range(4)] == expected


def test_the_column_with_most_images_contains_the_paths(tmp_path):
    """A label that is also an image's name is not taken for a path."""
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg", number)
    write_table(tmp_path / "all.csv", "label,id", [[n % 2, n] for n in range(4)])
    assert rows(recognize(tmp_path)) == {f"{n}.jpg": str(n % 2) for n in range(4)}


def test_label_column_needs_a_table(tmp_path):
    """--label-column requires a table, which then takes precedence over class folders."""
    write_class_folders(tmp_path, ["a", "b"], images=2)
    with pytest.raises(DatasetError, match="--label-column color"):
        recognize(tmp_path, Choices(label_column="color"))
    lines = [[f"{name}/Bild {n} ü.png", "xy"[n], "rg"[n]] for name in ("a", "b") for n in range(2)]
    write_table(tmp_path / "all.csv", "path,shape,color", lines)
    assert keys(recognize(tmp_path, Choices(label_column="color"))) == ["g", "r"]
    assert any("shape, color" in note for note in recognize(tmp_path).notes)


def test_flat_split_folders_are_not_classes(tmp_path):
    """Images directly in train/ and test/ have no label."""
    for split in ("train", "test"):
        for number in range(2):
            write_image(tmp_path / split / f"{number}.jpg", number)
    with pytest.raises(DatasetNotFoundError, match="train/: "):
        recognize(tmp_path)


def test_images_that_are_not_used_are_counted(tmp_path):
    """Notes count the images in folders next to train/ and val/, in deeper folders, and in linked folders."""
    write_class_folders(tmp_path / "train", ["a", "b"], images=1)
    write_class_folders(tmp_path / "val", ["a", "b"], images=1, start=50)
    write_class_folders(tmp_path / "extra", ["c"], images=1, start=90)
    assert any("1 in extra/c" in note for note in recognize(tmp_path).notes)
    nested = tmp_path / "nested"
    write_class_folders(nested / "animals", ["cat", "dog"], images=1)
    write_class_folders(nested / "plants", ["rose"], images=1)
    (nested / "linked").symlink_to(tmp_path / "train")
    notes = recognize(nested).notes
    assert any("animals/cat" in note and note.endswith("animals") for note in notes)
    assert any("linked" in note for note in notes)


def test_tiny_imagenet_in_another_encoding_is_an_error(tmp_path):
    """Annotations that are not UTF-8 and a train/ folder without images are reported by name."""
    write_image(tmp_path / "val/images/v.jpg", 1)
    (tmp_path / "val/val_annotations.txt").write_bytes(b"v.jpg\tcaf\xe9\n")
    with pytest.raises(ListFileError, match=r"val_annotations\.txt: byte 9"):
        recognize(tmp_path)
    (tmp_path / "val/val_annotations.txt").write_text("v.jpg\tn01\n")
    with pytest.raises(DatasetError, match="train"):
        recognize(tmp_path)
