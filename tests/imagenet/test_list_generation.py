"""Lists that are made: from class folders, and from the files in which ImageNet gives the classes of a flat val/."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.ground_truth import read_ground_truth, read_meta
from resnet50_pipeline.imagenet.layout import describe_lists, find_layout, read_lists
from resnet50_pipeline.imagenet.scan import scan_dataset
from resnet50_pipeline.imagenet.synsets import find_classes

SYNSETS = ("n01440764", "n02119789", "n02391049", "n15075141")
# The devkit's order is its own: label 0 has id 3, and so on; 5 is an inner node of its tree.
ILSVRC_IDS = {"n02119789": 1, "n15075141": 2, "n01440764": 3, "n02391049": 4, "n00001740": 5}
# Classes of ILSVRC2012_val_00000001.JPEG and the five after it.
TRUTH = ("n02391049", "n01440764", "n15075141", "n02119789", "n01440764", "n02391049")
VAL_LIST = """\
val/ILSVRC2012_val_00000002.JPEG 0
val/ILSVRC2012_val_00000005.JPEG 0
val/ILSVRC2012_val_00000004.JPEG 1
val/ILSVRC2012_val_00000001.JPEG 2
val/ILSVRC2012_val_00000006.JPEG 2
val/ILSVRC2012_val_00000003.JPEG 3
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four classes in train/, and a flat val/; without list files."""
    root = tmp_path / "dataset"
    for synset in SYNSETS:
        (root / "train" / synset).mkdir(parents=True)
        for number in (10, 9):
            (root / "train" / synset / f"{synset}_{number}.JPEG").write_bytes(b"")
    (root / "val").mkdir()
    for number in range(1, len(TRUTH) + 1):
        (root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(b"")
    return root


def write_meta(path: Path) -> Path:
    """Write a meta.mat with the fields and the shape of the devkit's."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
    fields.append("num_train_images")
    synsets = np.empty((len(ILSVRC_IDS), 1), dtype=[(field, object) for field in fields])
    for row, (synset, number) in enumerate(ILSVRC_IDS.items()):
        children = 2 if number == 5 else 0
        synsets[row, 0] = (number, synset, f"name of {synset}, other name", "gloss", children, [1, 2], 3, 1300)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"synsets": synsets})
    return path


def write_truth(root: Path, form: str) -> Path:
    """Write the classes of val/ in one of the forms, below `root`; return its path relative to it."""
    if form == "devkit":
        write_meta(root / "devkit/data/meta.mat")
        path = Path("devkit/data/ILSVRC2012_validation_ground_truth.txt")
        text = "".join(f"{ILSVRC_IDS[synset]}\n" for synset in TRUTH)
    elif form == "kaggle":
        path = Path("LOC_val_solution.csv")
        rows = [f"ILSVRC2012_val_{i:08d},{one} 85 1 499 272 {one} 1 2 3 4 \n" for i, one in enumerate(TRUTH, start=1)]
        text = "ImageId,PredictionString\n" + "".join(rows[::-1])
    else:
        path = Path("val_synsets.txt")
        text = "".join(f"{synset}\n" for synset in TRUTH)
    (root / path).write_text(text)
    return path


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of change of everything below `root`."""
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in root.rglob("*")}


# ── from folders ──


def test_lists_are_made_from_the_folders_sorted_by_label_and_path(digits: Path) -> None:
    """Without list files the classes are the sorted folders, and the lists are sorted by label, then path."""
    before = {split: one.text for split, one in read_lists(find_layout(digits), class_num=10).items()}
    for split in ("train", "val"):
        (digits / f"{split}_list.txt").unlink()
    lists = read_lists(find_layout(digits), class_num=10)
    for split in ("train", "val"):
        assert sorted(lists[split].text.splitlines()) == sorted(before[split].splitlines())
        rows = [(int(label), path) for path, label in (line.split(" ") for line in lists[split].text.splitlines())]
        assert rows == sorted(rows)
        assert lists[split].added_count == 0
    assert describe_lists(lists)[0].endswith(
        "there was none: it was made from the 10 class folders of train/, sorted by label and path"
    )


def test_nothing_is_written_to_the_users_folder(dataset: Path) -> None:
    """Making lists reads names, and leaves every file and folder as it was."""
    truth = write_truth(dataset, "devkit")
    before = tree(dataset)
    read_lists(find_layout(dataset, val_ground_truth=truth), class_num=4)
    assert tree(dataset) == before


def test_a_made_val_list_follows_the_labels_of_the_given_train_list(digits: Path) -> None:
    """Where the train list numbers classes its own way, the val list that is made does so too."""
    path = digits / "train_list.txt"
    path.write_text("".join(f"{name} {9 - int(label)}\n" for name, label in map(str.split, path.open())))
    (digits / "val_list.txt").unlink()
    lists = read_lists(find_layout(digits), class_num=10)
    assert lists["val"].text.startswith("val/n00000009/")
    assert lists["val"].text.splitlines()[0].endswith(" 0")


@pytest.mark.parametrize("class_num", [3, 5])
def test_the_number_of_folders_must_be_class_num(digits: Path, class_num: int) -> None:
    """More or fewer class folders than classes are one error, which gives both numbers."""
    (digits / "train_list.txt").unlink()
    with pytest.raises(ListFileError) as raised:
        read_lists(find_layout(digits), class_num)
    assert raised.value.problems[0] == (
        f"{digits / 'train'}: has 10 class folders (n00000000, n00000001, n00000002, …), but dataset.class_num is "
        f"{class_num} → correct dataset.class_num, or the folders"
    )


def test_a_val_folder_that_train_does_not_have_is_named(digits: Path) -> None:
    """A class that is in val/ only has no label."""
    (digits / "val_list.txt").unlink()
    (digits / "val/n00000042").mkdir()
    with pytest.raises(ListFileError, match=r"val/n00000042: is no class of train/ → move"):
        read_lists(find_layout(digits), class_num=10)


def test_names_that_a_list_cannot_hold_are_told_and_not_left_out(digits: Path) -> None:
    """A space, a line end or bytes that are not UTF-8 in a name are each an error, though no list has them."""
    (digits / "train_list.txt").unlink()
    folder = digits / "train/n00000000"
    for name, message in (
        (b"a b.JPEG", "more than one space, and PaddleClas splits on each → rename"),
        (b"a\nb.JPEG", "a line end in the path → rename"),
        (b"a\xff.JPEG", "0xff is not UTF-8"),
        (b"a\tb.JPEG", "a tab"),
    ):
        path = os.fsencode(folder) + b"/" + name
        Path(os.fsdecode(path)).write_bytes(b"")
        with pytest.raises(ListFileError, match=message):
            read_lists(find_layout(digits), class_num=10)
        Path(os.fsdecode(path)).unlink()


def test_whatever_has_the_name_of_an_image_is_listed_for_the_scan_to_judge(digits: Path) -> None:
    """A FIFO, a folder or a dangling link named as image is in the list that is made, and the scan says what it is."""
    (digits / "val_list.txt").unlink()
    folder = digits / "val/n00000003"
    os.mkfifo(folder / "fifo.JPEG")
    (folder / "folder.JPEG").mkdir()
    (folder / "link.JPEG").symlink_to("nowhere")
    (folder / ".hidden.JPEG").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    found = manifest[manifest["path"].str.startswith("val/n00000003/")].set_index("path")["status"]
    assert found["val/n00000003/fifo.JPEG"] == "not_a_file"
    assert found["val/n00000003/folder.JPEG"] == "not_a_file"
    assert found["val/n00000003/link.JPEG"] == "missing"
    assert not any("hidden" in path or "notes" in path for path in found.index)


def test_a_class_folder_that_is_a_link_out_of_the_root_is_seen_by_the_scan(digits: Path, tmp_path: Path) -> None:
    """Its images are listed, and each lies outside the root; a link in a circle ends nowhere."""
    (digits / "train_list.txt").unlink()
    (digits / "train/n00000004").rename(tmp_path / "elsewhere")
    (digits / "train/n00000004").symlink_to(tmp_path / "elsewhere")
    (digits / "train/n00000005/loop").symlink_to("..")
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    is_linked = manifest["path"].str.startswith("train/n00000004/")
    assert set(manifest.loc[is_linked, "status"]) == {"outside_root"}
    assert not manifest["path"].str.contains("loop").any()


def test_a_list_is_made_only_where_none_was_meant(digits: Path) -> None:
    """A list under a name of the user's own, a dangling link and a FIFO are not passed over in silence."""
    with pytest.raises(DatasetNotFoundError, match=r"the list file .*train\.txt is missing"):
        find_layout(digits, train_list="train.txt")
    (digits / "val_list.txt").unlink()
    (digits / "val_list.txt").symlink_to("nowhere")
    with pytest.raises(DatasetNotFoundError, match=r"the list file .*val_list\.txt is not a file"):
        find_layout(digits)
    (digits / "val_list.txt").unlink()
    os.mkfifo(digits / "val_list.txt")
    with pytest.raises(DatasetNotFoundError, match=r"the list file .*val_list\.txt is not a file"):
        find_layout(digits)


def test_a_flat_val_folder_alone_is_not_enough(dataset: Path) -> None:
    """Without list and ground truth nobody knows the classes of a flat val/; the error names the setting."""
    with pytest.raises(DatasetNotFoundError, match=r"(?s)val_list\.txt is missing.*dataset\.val_ground_truth"):
        find_layout(dataset)


# ── from ground truth ──


@pytest.mark.parametrize("form", ["devkit", "kaggle", "synsets"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_each_form_gives_the_list_of_a_flat_val_folder(dataset: Path, form: str, is_absolute: bool) -> None:
    """Devkit, Kaggle and synset files give the same list; no image moves."""
    truth = write_truth(dataset, form)
    layout = find_layout(dataset, val_ground_truth=dataset / truth if is_absolute else truth)
    lists = read_lists(layout, class_num=4)
    assert lists["val"].text == VAL_LIST
    assert lists["train"].text.splitlines()[:2] == [
        "train/n01440764/n01440764_10.JPEG 0",
        "train/n01440764/n01440764_9.JPEG 0",
    ]
    assert any(f"the list was made from {truth.name}" in notice for notice in describe_lists(lists))


def test_byte_order_mark_and_crlf_do_no_harm(dataset: Path) -> None:
    """Ground truth that went through an editor of Windows reads the same."""
    truth = write_truth(dataset, "kaggle")
    (dataset / truth).write_bytes(b"\xef\xbb\xbf" + (dataset / truth).read_bytes().replace(b"\n", b"\r\n"))
    assert read_lists(find_layout(dataset, val_ground_truth=truth), 4)["val"].text == VAL_LIST


def test_ground_truth_takes_the_place_of_a_list(dataset: Path) -> None:
    """Where both are there the ground truth, which was set, is what counts, and the report says so."""
    (dataset / "val_list.txt").write_text("ILSVRC2012_val_00000001.JPEG 0\n")
    lists = read_lists(find_layout(dataset, val_ground_truth=write_truth(dataset, "synsets")), 4)
    assert lists["val"].text == VAL_LIST


def test_ids_are_not_labels(dataset: Path) -> None:
    """Without meta.mat the devkit's numbers are refused, whichever they are; elsewhere it can be named."""
    truth = write_truth(dataset, "devkit")
    (dataset / "devkit/data/meta.mat").rename(dataset / "other.mat")
    with pytest.raises(DatasetNotFoundError, match=r"ILSVRC2012 ids, not labels.*dataset\.val_ground_truth_meta"):
        read_lists(find_layout(dataset, val_ground_truth=truth), 4)
    layout = find_layout(dataset, val_ground_truth=truth, val_ground_truth_meta=Path("other.mat"))
    assert read_lists(layout, 4)["val"].text == VAL_LIST


def test_images_in_class_folders_are_found_by_their_names(dataset: Path) -> None:
    """A val/ that was sorted into folders is listed where its images are."""
    for number, synset in enumerate(TRUTH, start=1):
        (dataset / "val" / synset).mkdir(exist_ok=True)
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (dataset / "val" / name).rename(dataset / "val" / synset / name)
    text = read_lists(find_layout(dataset, val_ground_truth=write_truth(dataset, "devkit")), 4)["val"].text
    assert text.splitlines()[0] == "val/n01440764/ILSVRC2012_val_00000002.JPEG 0"
    assert len(text.splitlines()) == len(TRUTH)


@pytest.mark.parametrize("form", ["devkit", "kaggle", "synsets"])
def test_a_missing_image_stays_in_the_list_for_the_scan_to_name(dataset: Path, form: str) -> None:
    """One deleted image shifts no other's class: it is listed and missing, and an image too many is in no list."""
    truth = write_truth(dataset, form)
    (dataset / "val/ILSVRC2012_val_00000003.JPEG").rename(dataset / "val/ILSVRC2012_val_00000007.JPEG")
    lists = read_lists(find_layout(dataset, val_ground_truth=truth), 4)
    assert lists["val"].text == VAL_LIST
    manifest = scan_dataset(dataset, {split: one.entries for split, one in lists.items()}, workers=1)
    statuses = manifest.set_index("path")["status"]
    assert statuses["val/ILSVRC2012_val_00000003.JPEG"] == "missing"
    assert statuses["val/ILSVRC2012_val_00000007.JPEG"] == "unlisted"


def test_other_names_go_by_their_order_and_must_be_as_many(dataset: Path) -> None:
    """Images that are not named as ImageNet's are matched in the order of their names, if none is missing."""
    truth = write_truth(dataset, "synsets")
    for number in range(1, len(TRUTH) + 1):
        (dataset / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").rename(dataset / "val" / f"photo{number}.jpg")
    text = read_lists(find_layout(dataset, val_ground_truth=truth), 4)["val"].text
    assert text.splitlines()[0] == "val/photo2.jpg 0"
    (dataset / "val/photo4.jpg").unlink()
    with pytest.raises(ListFileError, match="has 6 lines, but val/ has 5 images"):
        read_lists(find_layout(dataset, val_ground_truth=truth), 4)


BROKEN = {
    "empty": ("", r"the file is empty"),
    "not UTF-8": (b"n01440764\n\xff\n", r"byte 10: not UTF-8"),
    "two words": ("n01440764\nn01440764 7\n", r":2: 'n01440764 7': is not one synset"),
    "blank line": ("n01440764\n\nn02119789\n", r":2: '': is not one synset"),
    "unknown synset": ("n01440764\nn99999999\n", r":2: 'n99999999': train/ has no class folder of this name"),
    "csv without rows": ("ImageId,PredictionString\n", r"has no row behind its header"),
    "csv with two classes": (
        "ImageId,PredictionString\na,n01440764 1 2 3 4 n02119789 1 2 3 4\n",
        r":2: .*names the classes n01440764, n02119789 → each image needs one",
    ),
    "csv without class": ("ImageId,PredictionString\na,\n", r":2: 'a,': has no class"),
    "csv with an image twice": (
        "ImageId,PredictionString\na,n01440764 1 2 3 4\na,n01440764 1 2 3 4\n",
        r":3: 'a': also on line 2 → delete one of them",
    ),
    "csv with another header": ("image,label\na,n01440764\n", r":1: 'image,label': train/ has no class folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_of_the_ground_truth_is_told_with_its_line(dataset: Path, name: str) -> None:
    """Each fault names file and line, and says what to do."""
    content, message = BROKEN[name]
    path = dataset / "truth.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ListFileError, match=message) as raised:
        read_lists(find_layout(dataset, val_ground_truth=Path("truth.txt")), 4)
    assert raised.value.problems[0].startswith(f"{path}:")
    assert "→" in raised.value.problems[0]


def test_an_id_that_meta_does_not_have_is_told(dataset: Path) -> None:
    """Ids beyond the devkit's leaves, its inner nodes and words among numbers are no classes."""
    truth = dataset / write_truth(dataset, "devkit")
    truth.write_text("1\n5\n0\nfox\n")
    with pytest.raises(ListFileError) as raised:
        read_ground_truth(truth)
    assert [problem.split(": ")[:2] for problem in raised.value.problems] == [
        [f"{truth}:2", "'5'"],
        [f"{truth}:3", "'0'"],
        [f"{truth}:4", "'fox'"],
    ]


@pytest.mark.parametrize("content", [b"", b"no matrix", b"\0" * 200, b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\0\2IM"])
def test_what_is_no_meta_mat_is_told(tmp_path: Path, content: bytes) -> None:
    """An empty or damaged file, or one of another program, is one error that names the right one."""
    path = tmp_path / "meta.mat"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"is not the devkit's meta\.mat .*ILSVRC2012_devkit_t12/data/meta\.mat"):
        read_meta(path)


def test_meta_has_the_leaves_with_their_names(tmp_path: Path) -> None:
    """Inner nodes of the tree, which have no images, are left out."""
    classes = read_meta(write_meta(tmp_path / "meta.mat"))
    assert [one.ilsvrc_id for one in classes] == [1, 2, 3, 4]
    assert classes[0].synset == "n02119789"
    assert classes[0].words == "name of n02119789, other name"


def test_the_label_map_takes_names_from_meta(dataset: Path) -> None:
    """With the devkit at hand, classes have the names that it gives them, by synset and not by its ids."""
    layout = find_layout(dataset, val_ground_truth=write_truth(dataset, "devkit"))
    lists = read_lists(layout, 4)
    manifest = scan_dataset(dataset, {split: one.entries for split, one in lists.items()}, workers=1)
    classes = find_classes(manifest, 4, dataset, layout.meta)
    assert [(one.id, one.synset, one.name) for one in classes] == [
        (label, synset, f"name of {synset}, other name") for label, synset in enumerate(SYNSETS)
    ]
    shutil.rmtree(dataset / "devkit")
    assert layout.meta is None
