"""Lists are generated from class folders and from ground truth files."""

import errno
import os
import re
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from scipy.io import savemat

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.layout import collect_notices, find_layout, read_lists
from resnet50_pipeline.imagenet.lists.ground_truth import read_ground_truth, read_meta
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.synsets import find_classes

SYNSETS = ("n01440764", "n02119789", "n02391049", "n15075141")
# The devkit has its own order: label 0 has id 3, and so on. Id 5 is an inner node of its tree.
ILSVRC_IDS = {"n02119789": 1, "n15075141": 2, "n01440764": 3, "n02391049": 4, "n00001740": 5}
# Classes of ILSVRC2012_val_00000001.JPEG and the five images after it.
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
    """Four classes in train/ and a flat val/, without list files."""
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
    """Write a meta.mat with the devkit's fields and shape."""
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
    """Write the classes of val/ in one of the formats and return the path relative to `root`."""
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
    """Return the inode and modification time of everything below `root`."""
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in root.rglob("*")}


# ── from folders ──


def test_lists_are_generated_from_sorted_folders(digits: Path) -> None:
    """Without list files, labels follow the sorted folders, and lists are sorted by label and path."""
    before = {split: one.text for split, one in read_lists(find_layout(digits), class_num=10).items()}
    for split in ("train", "val"):
        (digits / f"{split}_list.txt").unlink()
    lists = read_lists(find_layout(digits), class_num=10)
    for split in ("train", "val"):
        assert sorted(lists[split].text.splitlines()) == sorted(before[split].splitlines())
        rows = [(int(label), path) for path, label in (line.split(" ") for line in lists[split].text.splitlines())]
        assert rows == sorted(rows)
        assert lists[split].added_count == 0
    assert "10 class folders in train/" in collect_notices(lists)[0]


def test_nothing_is_written_to_the_users_folder(dataset: Path) -> None:
    """Generating lists does not change the dataset."""
    truth = write_truth(dataset, "devkit")
    before = tree(dataset)
    read_lists(find_layout(dataset, val_ground_truth=truth), class_num=4)
    assert tree(dataset) == before


def test_generated_val_list_uses_labels_of_the_train_list(digits: Path) -> None:
    """A generated val list uses the labels of the given train list."""
    path = digits / "train_list.txt"
    path.write_text("".join(f"{name} {9 - int(label)}\n" for name, label in map(str.split, path.open())))
    (digits / "val_list.txt").unlink()
    lists = read_lists(find_layout(digits), class_num=10)
    assert lists["val"].text.startswith("val/n00000009/")
    assert lists["val"].text.splitlines()[0].endswith(" 0")


@pytest.mark.parametrize("class_num", [3, 5])
def test_the_number_of_folders_must_be_class_num(digits: Path, class_num: int) -> None:
    """A wrong number of class folders is reported in one error with both numbers."""
    (digits / "train_list.txt").unlink()
    with pytest.raises(ListFileError) as raised:
        read_lists(find_layout(digits), class_num)
    problem = raised.value.problems[0]
    assert problem.startswith(f"{digits / 'train'} has 10 class folders (")
    assert "10 class folders (n00000000, n00000001, n00000002, …)" in problem
    assert f"dataset.class_num is {class_num}" in problem


def test_class_folder_that_is_only_in_val_is_reported(digits: Path) -> None:
    """A class folder that is only in val/ is reported."""
    (digits / "val_list.txt").unlink()
    (digits / "val/n00000042").mkdir()
    with pytest.raises(ListFileError, match=r"val/n00000042 .*train/"):
        read_lists(find_layout(digits), class_num=10)


def test_names_that_a_list_cannot_contain_are_reported(digits: Path) -> None:
    """File names with line breaks, tabs or bytes that are not UTF-8 are reported, not skipped."""
    (digits / "train_list.txt").unlink()
    folder = digits / "train/n00000000"
    for name, message in (
        (b"a\nb.JPEG", r"a\\nb\.JPEG"),
        (b"a\xff.JPEG", "0xff"),
        (b"a\tb.JPEG", "a tab"),
    ):
        path = os.fsencode(folder) + b"/" + name
        Path(os.fsdecode(path)).write_bytes(b"")
        with pytest.raises(ListFileError, match=message):
            read_lists(find_layout(digits), class_num=10)
        Path(os.fsdecode(path)).unlink()


def test_special_files_named_like_images_are_listed(digits: Path) -> None:
    """FIFOs, folders and dangling links named like images are listed, and the scan reports them."""
    (digits / "val_list.txt").unlink()
    folder = digits / "val/n00000003"
    os.mkfifo(folder / "fifo.JPEG")
    (folder / "folder.JPEG").mkdir()
    (folder / "link.JPEG").symlink_to("nowhere")
    (folder / ".hidden.JPEG").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    is_image = manifest["path"].str.startswith("val/n00000003/") & (manifest["status"] != "other_file")
    found = manifest[is_image].set_index("path")["status"]
    assert found["val/n00000003/fifo.JPEG"] == "not_a_file"
    assert found["val/n00000003/folder.JPEG"] == "not_a_file"
    assert found["val/n00000003/link.JPEG"] == "missing"
    assert not any("hidden" in path or "notes" in path for path in found.index)


def test_linked_class_folder_is_reported_by_the_scan(digits: Path, tmp_path: Path) -> None:
    """Images in a class folder linked from outside are listed and reported as outside the root; loops terminate."""
    (digits / "train_list.txt").unlink()
    (digits / "train/n00000004").rename(tmp_path / "elsewhere")
    (digits / "train/n00000004").symlink_to(tmp_path / "elsewhere")
    (digits / "train/n00000005/loop").symlink_to("..")
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    is_linked = manifest["path"].str.startswith("train/n00000004/")
    assert set(manifest.loc[is_linked, "status"]) == {"outside_root"}
    assert not manifest["path"].str.contains("loop").any()


def test_configured_or_broken_list_is_not_replaced(digits: Path) -> None:
    """No list is generated if the user configured a name, or if a dangling link or FIFO has the default name."""
    with pytest.raises(DatasetNotFoundError, match=r"train\.txt"):
        find_layout(digits, train_list="train.txt")
    (digits / "val_list.txt").unlink()
    (digits / "val_list.txt").symlink_to("nowhere")
    with pytest.raises(DatasetNotFoundError, match=r"val_list\.txt"):
        find_layout(digits)
    (digits / "val_list.txt").unlink()
    os.mkfifo(digits / "val_list.txt")
    with pytest.raises(DatasetNotFoundError, match=r"val_list\.txt"):
        find_layout(digits)


def test_a_flat_val_folder_alone_is_not_enough(dataset: Path) -> None:
    """A flat val/ without a list or ground truth is rejected, and the error mentions the parameter."""
    with pytest.raises(DatasetNotFoundError, match=r"(?s)val_list\.txt .*dataset\.val_ground_truth"):
        find_layout(dataset)


# ── from ground truth ──


@pytest.mark.parametrize("form", ["devkit", "kaggle", "synsets"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_each_form_gives_the_list_of_a_flat_val_folder(dataset: Path, form: str, is_absolute: bool) -> None:
    """Devkit, Kaggle and synset files produce the same list."""
    truth = write_truth(dataset, form)
    layout = find_layout(dataset, val_ground_truth=dataset / truth if is_absolute else truth)
    lists = read_lists(layout, class_num=4)
    assert lists["val"].text == VAL_LIST
    assert lists["train"].text.splitlines()[:2] == [
        "train/n01440764/n01440764_10.JPEG 0",
        "train/n01440764/n01440764_9.JPEG 0",
    ]
    assert any(truth.name in notice for notice in collect_notices(lists))


def test_byte_order_mark_and_crlf_are_ignored(dataset: Path) -> None:
    """Ground truth with a byte-order mark and CRLF produces the same list."""
    truth = write_truth(dataset, "kaggle")
    (dataset / truth).write_bytes(b"\xef\xbb\xbf" + (dataset / truth).read_bytes().replace(b"\n", b"\r\n"))
    assert read_lists(find_layout(dataset, val_ground_truth=truth), 4)["val"].text == VAL_LIST


def test_ground_truth_takes_precedence_over_a_list(dataset: Path) -> None:
    """A configured ground truth file takes precedence over a val list."""
    (dataset / "val_list.txt").write_text("ILSVRC2012_val_00000001.JPEG 0\n")
    lists = read_lists(find_layout(dataset, val_ground_truth=write_truth(dataset, "synsets")), 4)
    assert lists["val"].text == VAL_LIST


def test_devkit_ids_require_meta_mat(dataset: Path) -> None:
    """The devkit's ids are rejected without meta.mat, which may be in another folder if it is configured."""
    truth = write_truth(dataset, "devkit")
    (dataset / "devkit/data/meta.mat").rename(dataset / "other.mat")
    with pytest.raises(DatasetNotFoundError, match=r"meta\.mat.*dataset\.val_ground_truth_meta"):
        read_lists(find_layout(dataset, val_ground_truth=truth), 4)
    layout = find_layout(dataset, val_ground_truth=truth, val_ground_truth_meta=Path("other.mat"))
    assert read_lists(layout, 4)["val"].text == VAL_LIST


def test_images_in_class_folders_are_found_by_their_names(dataset: Path) -> None:
    """Ground truth also applies to images that were sorted into class folders."""
    for number, synset in enumerate(TRUTH, start=1):
        (dataset / "val" / synset).mkdir(exist_ok=True)
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (dataset / "val" / name).rename(dataset / "val" / synset / name)
    text = read_lists(find_layout(dataset, val_ground_truth=write_truth(dataset, "devkit")), 4)["val"].text
    assert text.splitlines()[0] == "val/n01440764/ILSVRC2012_val_00000002.JPEG 0"
    assert len(text.splitlines()) == len(TRUTH)


@pytest.mark.parametrize("form", ["devkit", "kaggle", "synsets"])
def test_missing_image_stays_in_the_list(dataset: Path, form: str) -> None:
    """A missing image stays in the list without shifting any labels, and an extra image is reported as unlisted."""
    truth = write_truth(dataset, form)
    (dataset / "val/ILSVRC2012_val_00000003.JPEG").rename(dataset / "val/ILSVRC2012_val_00000007.JPEG")
    lists = read_lists(find_layout(dataset, val_ground_truth=truth), 4)
    assert lists["val"].text == VAL_LIST
    manifest = scan_dataset(dataset, {split: one.entries for split, one in lists.items()}, workers=1)
    statuses = manifest.set_index("path")["status"]
    assert statuses["val/ILSVRC2012_val_00000003.JPEG"] == "missing"
    assert statuses["val/ILSVRC2012_val_00000007.JPEG"] == "unlisted"


def test_images_with_other_names_are_matched_in_order(dataset: Path) -> None:
    """Images with other names are matched in name order, and there must be as many images as lines."""
    truth = write_truth(dataset, "synsets")
    for number in range(1, len(TRUTH) + 1):
        (dataset / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").rename(dataset / "val" / f"photo{number}.jpg")
    text = read_lists(find_layout(dataset, val_ground_truth=truth), 4)["val"].text
    assert text.splitlines()[0] == "val/photo2.jpg 0"
    (dataset / "val/photo4.jpg").unlink()
    with pytest.raises(ListFileError, match=r"6 lines.* 5 images"):
        read_lists(find_layout(dataset, val_ground_truth=truth), 4)


BROKEN = {
    "empty": ("", r"empty"),
    "not UTF-8": (b"n01440764\n\xff\n", r"byte 10\b"),
    "two words": ("n01440764\nn01440764 7\n", r":2: 'n01440764 7'"),
    "blank line": ("n01440764\n\nn02119789\n", r":2: ''"),
    "unknown synset": ("n01440764\nn99999999\n", r":2: 'n99999999'"),
    "csv without rows": ("ImageId,PredictionString\n", r"header"),
    "csv with two classes": (
        "ImageId,PredictionString\na,n01440764 1 2 3 4 n02119789 1 2 3 4\n",
        r":2: .*n01440764, n02119789",
    ),
    "csv without class": ("ImageId,PredictionString\na,\n", r":2: 'a,'"),
    "csv with an image twice": (
        "ImageId,PredictionString\na,n01440764 1 2 3 4\na,n01440764 1 2 3 4\n",
        r":3: 'a' .*line 2\b",
    ),
    "csv with another header": ("image,label\na,n01440764\n", r":1: 'image,label'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_ground_truth_is_reported_with_its_line(dataset: Path, name: str) -> None:
    """Each invalid line of a ground truth file is reported with file, line and next step."""
    content, message = BROKEN[name]
    path = dataset / "truth.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ListFileError, match=message) as raised:
        read_lists(find_layout(dataset, val_ground_truth=Path("truth.txt")), 4)
    assert re.match(rf"{re.escape(str(path))}(:\d+)?:? ", raised.value.problems[0])
    assert "→" in raised.value.problems[0]


def test_ids_missing_from_meta_mat_are_reported(dataset: Path) -> None:
    """Ids that are not leaves of the devkit's tree, and words, are reported with their line numbers."""
    truth = dataset / write_truth(dataset, "devkit")
    truth.write_text("1\n5\n0\nfox\n")
    with pytest.raises(ListFileError) as raised:
        read_ground_truth(truth)
    assert [problem.partition(" is ")[0] for problem in raised.value.problems] == [
        f"{truth}:2: '5'",
        f"{truth}:3: '0'",
        f"{truth}:4: 'fox'",
    ]


@pytest.mark.parametrize("content", [b"", b"no matrix", b"\0" * 200, b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\0\2IM"])
def test_invalid_meta_mat_is_reported(tmp_path: Path, content: bytes) -> None:
    """An empty, damaged or unrelated meta.mat raises an error that identifies the right file."""
    path = tmp_path / "meta.mat"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"ILSVRC2012_devkit_t12/data/meta\.mat"):
        read_meta(path)


def test_meta_has_the_leaves_with_their_names(tmp_path: Path) -> None:
    """Only leaves of the devkit's tree are returned, because inner nodes have no images."""
    classes = read_meta(write_meta(tmp_path / "meta.mat"))
    assert [one.ilsvrc_id for one in classes] == [1, 2, 3, 4]
    assert classes[0].synset == "n02119789"
    assert classes[0].words == "name of n02119789, other name"


def test_the_label_map_takes_names_from_meta(dataset: Path) -> None:
    """Class names come from the devkit, matched by synset."""
    layout = find_layout(dataset, val_ground_truth=write_truth(dataset, "devkit"))
    lists = read_lists(layout, 4)
    manifest = scan_dataset(dataset, {split: one.entries for split, one in lists.items()}, workers=1)
    classes = find_classes(manifest, 4, dataset, layout.meta)
    assert [(one.id, one.synset, one.name) for one in classes] == [
        (label, synset, f"name of {synset}, other name") for label, synset in enumerate(SYNSETS)
    ]
    shutil.rmtree(dataset / "devkit")
    assert layout.meta is None


# ── name order ──


@pytest.mark.parametrize(
    "names",
    [
        [f"val_{number}.JPEG" for number in range(12)],
        [f"{number}.JPEG" for number in (1, 2, 30)] + ["200.JPEG"],
        ["a9-2.JPEG", "a10-1.JPEG"],
        ["B.JPEG", "a.JPEG", "c.JPEG"],
    ],
)
def test_ground_truth_in_an_ambiguous_order_is_rejected(dataset: Path, names: list[str]) -> None:
    """Ground truth without image names is rejected if the name order depends on how digits or case are compared."""
    for path in (dataset / "val").iterdir():
        path.unlink()
    for name in names:
        (dataset / "val" / name).write_bytes(b"image")
    (dataset / "truth.txt").write_text(f"{TRUTH[0]}\n" * len(names))
    with pytest.raises(ListFileError) as raised:
        read_lists(find_layout(dataset, val_ground_truth=Path("truth.txt")), class_num=4)
    (problem,) = raised.value.problems
    assert problem.startswith(f"{dataset / 'truth.txt'} ")
    assert repr(sorted(names)[next(i for i, name in enumerate(sorted(names)) if name in problem)]) in problem


def test_ground_truth_in_the_order_of_padded_names_is_accepted(dataset: Path) -> None:
    """If text order and numeric order agree, the lines are assigned in this order."""
    for path in (dataset / "val").iterdir():
        path.unlink()
    for number in range(8, 12):
        (dataset / f"val/val_{number:03d}.JPEG").write_bytes(b"image")
    (dataset / "truth.txt").write_text("".join(f"{synset}\n" for synset in TRUTH[:4]))
    val = read_lists(find_layout(dataset, val_ground_truth=Path("truth.txt")), class_num=4)["val"]
    labels = {synset: label for label, synset in enumerate(sorted(set(TRUTH)))}
    assert sorted(val.text.splitlines()) == [
        f"val/val_{number:03d}.JPEG {labels[synset]}" for number, synset in zip(range(8, 12), TRUTH[:4], strict=True)
    ]


def test_number_order_of_class_folders_is_a_notice(digits: Path) -> None:
    """If sorting class folders numerically would give different labels, a notice names the first such folder."""
    (digits / "train_list.txt").unlink()
    (digits / "val_list.txt").unlink()
    for split in ("train", "val"):
        for number, folder in enumerate(sorted((digits / split).iterdir())):
            folder.rename(digits / split / str(number + 1))
    notices = collect_notices(read_lists(find_layout(digits), class_num=10))
    (notice,) = [notice for notice in notices if "label 1 is the folder 10" in notice]
    assert "folder 2 has label 2" in notice
    for split in ("train", "val"):
        (digits / split / "10").rename(digits / split / "0")
    assert not [one for one in collect_notices(read_lists(find_layout(digits), class_num=10)) if "label 1 is" in one]


# ── folders without images ──


def without_lists(root: Path) -> Path:
    """Delete the list files."""
    (root / "train_list.txt").unlink()
    (root / "val_list.txt").unlink()
    return root


def test_images_below_class_folders_are_named(digits: Path) -> None:
    """If all images are one folder too deep, as in Tiny ImageNet, the error names one of them."""
    for folder in (without_lists(digits) / "train").iterdir():
        (folder / "images").mkdir()
        for image in folder.glob("*.JPEG"):
            image.rename(folder / "images" / image.name)
    with pytest.raises(ListFileError, match=r"n00000000/images/n00000000_\d+\.JPEG"):
        read_lists(find_layout(digits), class_num=10)


def test_images_without_an_image_suffix_are_named(digits: Path) -> None:
    """If no file in a class folder has an image suffix, the error includes a file and the suffixes."""
    for image in (without_lists(digits) / "train").rglob("*.JPEG"):
        image.rename(image.with_suffix(""))
    with pytest.raises(ListFileError, match=r"\.jpeg.*n00000000/n00000000_\d+ →"):
        read_lists(find_layout(digits), class_num=10)


# ── names ──


@pytest.mark.parametrize("name", ["train", "val", "golden retriever", "ñandú", "a,b'c#d"])
@pytest.mark.parametrize("has_lists", [False, True])
def test_class_folders_may_have_any_name(digits: Path, name: str, has_lists: bool) -> None:
    """Generated lists contain the images of an unusually named class folder, even after being written and read back."""
    for split in ("train", "val"):
        (digits / split / "n00000004").rename(digits / split / name)
    without_lists(digits)
    lists = read_lists(find_layout(digits), class_num=10)
    if has_lists:
        for split, prefixed in lists.items():
            (digits / f"{split}_list.txt").write_bytes(prefixed.data)
        lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    assert set(manifest["status"]) == {"ok"}
    assert (manifest["synset"] == name).sum() == 6
    assert len(manifest) == 60


def test_another_unicode_form_of_a_class_folder_is_named(digits: Path) -> None:
    """If the name of a class folder has different Unicode forms in train/ and val/, the error says so."""
    (digits / "train/n00000004").rename(digits / "train" / normalize("NFC", "café"))
    (digits / "val/n00000004").rename(digits / "val" / normalize("NFD", "café"))
    with pytest.raises(ListFileError, match=r"Unicode form \(NFD\)"):
        read_lists(find_layout(without_lists(digits)), class_num=10)


def test_another_unicode_form_in_a_list_is_named(digits: Path) -> None:
    """If a list and the disk use different Unicode forms of a name, the problem with the missing image says so."""
    (digits / "train/n00000004").rename(digits / "train" / normalize("NFD", "café"))
    path = digits / "train_list.txt"
    path.write_text(path.read_text().replace("n00000004/", normalize("NFC", "café") + "/"))
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    missing = manifest[manifest["status"] == "missing"]
    assert len(missing) == 4
    assert missing["problem"].str.contains(r"Unicode form \(NFD\)").all()


@pytest.mark.parametrize("name", ["lost+found", "@eaDir", "$RECYCLE.BIN", ".hidden"])
def test_system_folders_are_not_classes(digits: Path, name: str) -> None:
    """System folders are not treated as class folders, and the scan does not enter them."""
    (without_lists(digits) / "train" / name).mkdir()
    (digits / "train" / name / "x.JPEG").write_bytes(b"")
    lists = read_lists(find_layout(digits), class_num=10)
    assert len(lists["train"].entries) == 40
    if not name.startswith("."):
        manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
        assert not manifest["path"].str.contains("x.JPEG").any()


def test_a_folder_without_permission_is_named(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a class folder or the status of its files cannot be read, the error contains the folder's path."""
    real_scandir, real_stat = os.scandir, os.stat

    def scandir(path: str | Path) -> object:
        if str(path).endswith("n00000004"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_scandir(path)

    def stat(path: str, **options: object) -> os.stat_result:
        if "dir_fd" in options and str(path).startswith("n00000004"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_stat(path, **options)

    lists = read_lists(find_layout(digits), class_num=10)
    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(DatasetError, match=f"{digits}/train/n00000004/?: "):
        scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match=f"{digits}/train/n00000004 "):
        read_lists(find_layout(without_lists(digits)), class_num=10)


# ── other file formats ──


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val_0.JPEG\tn01440764\t0\t0\nval_1.JPEG\tn01440764\t0\t0\n", "4 columns separated by tabs"),
        ("ImageId,Class\nval_0,n01440764\nval_1,n01440764\n", "2 columns separated by commas"),
        ("val_0.JPEG n01440764\nval_1.JPEG n01440764\n", "2 columns separated by spaces"),
    ],
)
def test_other_forms_of_ground_truth_are_described_once(dataset: Path, text: str, message: str) -> None:
    """For a table in an unsupported format, one error describes its columns and the supported formats."""
    (dataset / "truth.txt").write_text(text)
    with pytest.raises(ListFileError) as raised:
        read_ground_truth(dataset / "truth.txt")
    (problem,) = raised.value.problems
    assert message in problem
    assert "ImageId,PredictionString" in problem


def test_a_problem_of_the_class_folders_is_reported_once(digits: Path) -> None:
    """A wrong number of classes is reported once, although both lists are generated from the folders."""
    with pytest.raises(ListFileError) as raised:
        read_lists(find_layout(without_lists(digits)), class_num=11)
    assert len(raised.value.problems) == 1


def test_a_names_file_that_is_not_utf8_is_an_error_before_the_scan(digits: Path) -> None:
    """A names file in Latin-1 is reported with the invalid byte when the layout is checked."""
    (digits / "synset_words.txt").write_bytes("n00000000 café\n".encode("latin-1"))
    with pytest.raises(ListFileError, match=r"synset_words\.txt: byte 13: 0xe9"):
        find_layout(digits)


def test_a_names_file_of_other_classes_is_a_warning(digits: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Classes without a name in the names file are counted in a warning and keep the names of their folders."""
    (digits / "synset_words.txt").write_text("n00000000 zero\nn99999999 other\n")
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    names = [one.name for one in find_classes(manifest, 10, digits)]
    assert names[:2] == ["zero", "n00000001"]
    assert any("9 class folders" in record.getMessage() for record in caplog.records)
