"""Patches change the lists, the manifest and the data digest, and never the user's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.fixing import ListedImages, list_images, make_patch
from resnet50_pipeline.imagenet.layout import find_dataset, read_lists
from resnet50_pipeline.imagenet.lists.fixes import Fix
from resnet50_pipeline.imagenet.lists.patches import apply_patches, read_patches, write_patch
from resnet50_pipeline.imagenet.scan.digest import compute_data_digest
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters
from resnet50_pipeline.pipelines.data_validation.nodes import scan_dataset

VALIDATION = DataValidationParameters(workers=1, blocking=())


@pytest.fixture
def parameters(tmp_path: Path) -> DatasetParameters:
    """`params:dataset` for the digits, with a folder for patches that does not exist yet."""
    return DatasetParameters(class_num=10, patches=tmp_path / "patches")


def fix(root: Path, parameters: DatasetParameters, *fixes: Fix) -> list[str]:
    """Write a patch with these fixes, and return the warnings."""
    images = list_images(root, parameters)
    content, warnings = make_patch(images, fixes, source="fixes.csv", by="Ada", reason="test")
    assert parameters.patches is not None
    write_patch(parameters.patches, content)
    return warnings


def lines(root: Path, parameters: DatasetParameters) -> dict[str, list[str]]:
    """Return the lines of both lists as data_preparation would write them."""
    lists = read_lists(find_dataset(root, parameters), parameters.class_num)
    return {split: prefixed.text.splitlines() for split, prefixed in lists.items()}


def image(root: Path, split: str, digit: int, number: int = 0) -> str:
    """Return the path of an image of a digit, relative to the dataset root."""
    return sorted(path.relative_to(root).as_posix() for path in (root / split / f"n{digit:08d}").iterdir())[number]


def scan(root: Path, parameters: DatasetParameters) -> pd.DataFrame:
    return scan_dataset(root, parameters, VALIDATION)[0]


def test_each_action_changes_one_line(digits: Path, parameters: DatasetParameters):
    """Dropped, relabeled and moved images change their own lines; all other lines keep their order."""
    before = lines(digits, parameters)
    own = {path: path.read_bytes() for path in digits.glob("*_list.txt")}
    dropped, relabeled = image(digits, "train", 5), image(digits, "train", 3)
    moved, kept = image(digits, "val", 1), image(digits, "val", 2)
    warnings = fix(
        digits,
        parameters,
        Fix(dropped.removeprefix("train/"), "drop", "", "blank"),
        Fix(relabeled, "relabel", "eight"),
        Fix(moved, "move"),
        Fix(kept, "keep"),
    )
    assert warnings == []
    train = [line.replace(f"{relabeled} 3", f"{relabeled} 8") for line in before["train"] if line != f"{dropped} 5"]
    val = [line for line in before["val"] if line != f"{moved} 1"]
    assert lines(digits, parameters) == {"train": [*train, f"{moved} 1"], "val": val}
    assert {path: path.read_bytes() for path in digits.glob("*_list.txt")} == own


def test_patches_add_up_and_are_undone_in_order(digits: Path, parameters: DatasetParameters):
    """A second patch builds on the first. Deleting its file restores the result of the first patch."""
    path = image(digits, "train", 3)
    versions = [(lines(digits, parameters), compute_data_digest(scan(digits, parameters)))]
    for row in (
        Fix(path, "relabel", "n00000008"),
        Fix(path, "move", split="train"),
        Fix(path, "move", split="val"),
        Fix(path, "drop"),
    ):
        fix(digits, parameters, row)
        versions.append((lines(digits, parameters), compute_data_digest(scan(digits, parameters))))
    assert f"{path} 8" in versions[1][0]["train"]
    assert versions[2][0]["val"][-1] == f"{path} 8"
    assert versions[3] == versions[1]
    assert len({digest for _, digest in versions}) == 4
    for expected in versions[-2::-1]:
        read_patches(parameters.patches)[-1].file.unlink()
        assert (lines(digits, parameters), compute_data_digest(scan(digits, parameters))) == expected


def test_the_manifest_shows_the_patched_lists(digits: Path, parameters: DatasetParameters):
    """A relabeled image gets the synset of its new label, and a dropped image is not reported as unlisted."""
    dropped, relabeled, moved = image(digits, "train", 5), image(digits, "train", 3), image(digits, "train", 1)
    fix(digits, parameters, Fix(dropped, "drop"), Fix(relabeled, "relabel", "8"), Fix(moved, "move"))
    manifest = scan(digits, parameters).set_index("path")
    assert dropped not in manifest.index
    assert (manifest["status"] == "ok").all()
    assert manifest.loc[relabeled, ["split", "label", "synset"]].tolist() == ["train", 8, "n00000008"]
    assert manifest.loc[moved, ["split", "label", "synset"]].tolist() == ["val", 1, "n00000001"]


def test_a_patch_that_no_longer_fits_is_an_error(digits: Path, parameters: DatasetParameters):
    """The error names the patch and each image that the user's list no longer contains or labels differently."""
    gone, other = image(digits, "train", 3), image(digits, "train", 4)
    fix(digits, parameters, Fix(gone, "relabel", "8"), Fix(other, "drop"))
    path = digits / "train_list.txt"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(gone.removeprefix("train/"))]
    name = other.removeprefix("train/")
    path.write_text("".join(f"{line}\n" for line in kept).replace(f"{name} 4", f"{name} 9"))
    with pytest.raises(ListFileError) as caught:
        lines(digits, parameters)
    first, second = caught.value.problems
    assert "0001.json: relabel " in first
    assert f"{gone}: the patch expects label 3 in the train list, but the image is not in any list" in first
    assert f"{other}: the patch expects label 4 in the train list, but it has label 9" in second


def test_every_row_of_a_fix_list_is_checked(digits: Path, parameters: DatasetParameters):
    """Unknown images, unknown classes, unchanged labels and conflicting rows are reported with their row numbers."""
    path = image(digits, "train", 3)
    images = list_images(digits, parameters)
    fixes = [
        Fix(path, "drop"),
        Fix(path.removeprefix("train/"), "relabel", "8"),
        Fix("train/none.JPEG", "drop"),
        Fix(image(digits, "train", 4), "relabel", "10"),
        Fix(image(digits, "train", 4), "relabel", "ten"),
        Fix(image(digits, "train", 4), "relabel", "four"),
        Fix(path, "drop", "", "the same decision again"),
    ]
    with pytest.raises(ListFileError) as caught:
        make_patch(images, fixes, source="f.csv", by="Ada", reason="")
    found = [problem.split(" → ")[0] for problem in caught.value.problems]
    assert found == [
        f"f.csv, row 2: relabel '{path}' conflicts with drop in row 1",
        "f.csv, row 3: 'train/none.JPEG' is not in any list",
        "f.csv, row 4: label 10 is outside 0..9",
        "f.csv, row 5: 'ten' is not a class",
        f"f.csv, row 6: '{image(digits, 'train', 4)}' already has label 4",
    ]


def test_a_fix_list_is_applied_once(digits: Path, parameters: DatasetParameters):
    """Repeated rows change nothing: a moved image is not moved back, and a dropped image is not an error."""
    moved, relabeled = image(digits, "train", 1), image(digits, "val", 3)
    rows = [
        Fix(moved.removeprefix("train/"), "move"),
        Fix(relabeled, "relabel", "eight"),
        Fix(image(digits, "train", 5), "drop", split="train"),
    ]
    assert fix(digits, parameters, *rows) == []
    content, warnings = make_patch(list_images(digits, parameters), rows, source="f.csv", by="Ada", reason="")
    assert (content.rows, warnings) == ((), ["skipped 3 rows that earlier patches already applied"])
    # A row with the split moves the image back, and an image that was changed again is changed once more.
    fix(digits, parameters, Fix(moved, "move", split="val"), Fix(relabeled, "relabel", "3"))
    fix(digits, parameters, *rows)
    now = lines(digits, parameters)
    assert f"{moved} 1" in now["train"]
    assert f"{relabeled} 8" in now["val"]


def test_the_other_copy_of_an_image_can_be_changed_later(tmp_path: Path, shared: DatasetParameters):
    """After one list has been patched, the same change to the other list is not mistaken for a repetition."""
    fix(tmp_path, shared, Fix("a.png", "drop", split="train"))
    assert fix(tmp_path, shared, Fix("a.png", "drop", split="train")) == [
        "skipped 1 row that earlier patches already applied"
    ]
    assert fix(tmp_path, shared, Fix("a.png", "drop")) == []
    assert lines(tmp_path, shared) == {"train": ["b.png 1", "c.png 0"], "val": ["d.png 0", "e.png 1"]}


def test_a_patch_does_not_fit_renumbered_class_folders(digits: Path, parameters: DatasetParameters):
    """If a new class folder shifts the generated labels, a patch raises an error instead of setting a wrong label."""
    for name in ("train_list.txt", "val_list.txt"):
        (digits / name).unlink()
    parameters = parameters.model_copy(update={"class_num": None})
    fix(digits, parameters, Fix(image(digits, "train", 3), "relabel", "eight"))
    assert f"{image(digits, 'train', 3)} 8" in lines(digits, parameters)["train"]
    for split in ("train", "val"):
        shutil.copytree(digits / split / "n00000009", digits / split / "n00000005b")
    with pytest.raises(ListFileError, match="'n00000008' had label 8 when the patch was made, but now has label 9"):
        lines(digits, parameters)


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("rose\nsunflower\ntulip\n", "'tulip' had label 1 when the patch was made, but now has label 2"),
        ("rose\npoppy\n", "'tulip' had label 1 when the patch was made, but no longer exists"),
    ],
)
def test_a_patch_does_not_apply_to_other_classes(tmp_path: Path, shared: DatasetParameters, classes: str, problem: str):
    """If the dataset is adopted again with other classes, a patch is an error, even if the old labels still match."""
    fix(tmp_path, shared, Fix("c.png", "relabel", "tulip"))
    assert shared.lists is not None
    (shared.lists / "classes.txt").write_text("rose\tRosa\ntulip\tTulipa\n")
    assert "c.png 1" in lines(tmp_path, shared)["train"]
    (shared.lists / "classes.txt").write_text(classes)
    with pytest.raises(ListFileError, match=problem):
        lines(tmp_path, shared)


def test_a_label_that_is_also_the_name_of_another_class_is_a_warning(tmp_path: Path, shared: DatasetParameters):
    """Digits are read as labels, which is easily misread in a dataset with classes named 1, 2 and 3."""
    assert shared.lists is not None
    (shared.lists / "classes.txt").write_text("1\n2\n3\n")
    message = "1 is interpreted as a label (class 2), not as the class named 1, which has label 0"
    assert fix(tmp_path, shared, Fix("c.png", "relabel", "1")) == [message]
    assert fix(tmp_path, shared, Fix("e.png", "relabel", "0")) == []


def test_patches_fit_each_fold(tmp_path: Path, shared: DatasetParameters):
    """A fold divides the images differently, so an image is changed in the list that contains it."""
    assert shared.lists is not None
    (shared.lists / "val_list.txt").write_text("d.png 0\ne.png 1\n")
    fix(tmp_path, shared, Fix("b.png", "relabel", "rose"), Fix("d.png", "drop"))
    fold = shared.lists / "fold-2"
    fold.mkdir()
    (fold / "train_list.txt").write_text("d.png 0\ne.png 1\n")
    (fold / "val_list.txt").write_text("a.png 0\nb.png 1\nc.png 0\n")
    (fold / "classes.txt").write_text("rose\ntulip\n")
    parameters = shared.model_copy(update={"lists": fold})
    assert lines(tmp_path, parameters) == {"train": ["e.png 1"], "val": ["a.png 0", "b.png 0", "c.png 0"]}
    (fold / "val_list.txt").write_text("a.png 0\nc.png 0\n")
    with pytest.raises(ListFileError, match=r"relabel b\.png: .* the image is not in any list"):
        lines(tmp_path, parameters)


def test_losing_a_class_is_a_warning(digits: Path, parameters: DatasetParameters):
    """If a split loses the last image of a class, the warning names both."""
    rows = [Fix(image(digits, "val", 7, number), "drop") for number in range(2)]
    assert fix(digits, parameters, *rows) == [
        "val no longer contains images of seven; data_validation will stop the run"
    ]


def test_losing_the_last_class_lowers_a_derived_class_num(digits: Path, tmp_path: Path):
    """If class_num comes from the lists, the warning states the new number; a class in the middle still stops a run."""
    parameters = DatasetParameters(class_num=None, patches=tmp_path / "patches")
    last = [Fix(path.relative_to(digits).as_posix(), "drop") for path in digits.glob("*/n00000009/*")]
    seven = [Fix(image(digits, "val", 7, number), "drop") for number in range(2)]
    assert fix(digits, parameters, *last, *seven) == [
        "val no longer contains images of seven; data_validation will stop the run",
        "the lists no longer contain images of nine; the dataset now has 9 classes, because dataset.class_num is null",
    ]
    assert len(list_images(digits, parameters).classes) == 9


def test_only_the_lists_that_a_patch_changes_are_parsed_again(digits: Path, parameters: DatasetParameters):
    """A changed list gets a notice that names its patches. Other lists are returned as they are."""
    layout = find_dataset(digits, parameters)
    lists = read_lists(layout, 10)
    assert parameters.patches is not None
    fix(digits, parameters, Fix(image(digits, "train", 5), "drop"))
    fix(digits, parameters, Fix(image(digits, "train", 3), "drop"))
    patches = read_patches(parameters.patches)
    patched = apply_patches(lists, patches)
    assert patched["val"] is lists["val"]
    ids = ", ".join(patch.id for patch in patches)
    assert patched["train"].entries.notices[-1] == f"changed by {ids} in {parameters.patches}"
    fix(digits, parameters, Fix(image(digits, "train", 4), "move"))
    patches = read_patches(parameters.patches)
    notice = apply_patches(lists, patches)["val"].entries.notices[-1]
    assert notice == f"changed by {patches[-1].id} in {parameters.patches}"


@pytest.fixture
def shared(tmp_path: Path) -> DatasetParameters:
    """`params:dataset` with the user's own lists. Both contain a.png, with different labels."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "train_list.txt").write_text("a.png 0\nb.png 1\nc.png 0\n")
    (folder / "val_list.txt").write_text("d.png 0\na.png 1\ne.png 1\n")
    (folder / "classes.txt").write_text("rose\ntulip\n")
    return DatasetParameters(lists=folder, patches=tmp_path / "patches")


@pytest.mark.parametrize(
    ("row", "train", "val"),
    [
        (Fix("a.png", "drop", split="train"), ["b.png 1", "c.png 0"], ["d.png 0", "a.png 1", "e.png 1"]),
        (Fix("a.png", "drop", split="val"), ["a.png 0", "b.png 1", "c.png 0"], ["d.png 0", "e.png 1"]),
        (
            Fix("a.png", "relabel", "rose", split="val"),
            ["a.png 0", "b.png 1", "c.png 0"],
            ["d.png 0", "a.png 0", "e.png 1"],
        ),
        (
            Fix("a.png", "relabel", "tulip", split="train"),
            ["a.png 1", "b.png 1", "c.png 0"],
            ["d.png 0", "a.png 1", "e.png 1"],
        ),
    ],
)
def test_a_row_changes_only_its_list(
    tmp_path: Path, shared: DatasetParameters, row: Fix, train: list[str], val: list[str]
):
    """If both lists contain an image, the other list stays as it is."""
    fix(tmp_path, shared, row)
    assert lines(tmp_path, shared) == {"train": train, "val": val}


def test_an_image_in_both_lists_needs_its_split(tmp_path: Path, shared: DatasetParameters):
    """A row without a split, or with the split of a list that does not contain the image, is an error."""
    images = list_images(tmp_path, shared)
    fixes = [Fix("a.png", "drop"), Fix("b.png", "drop", split="val"), Fix("a.png", "move", split="train")]
    with pytest.raises(ListFileError) as caught:
        make_patch(images, fixes, source="f.csv", by="Ada", reason="")
    assert list(caught.value.problems) == [
        "f.csv, row 1: 'a.png' is ambiguous (a.png in the train list and a.png in the val list) → write the full "
        "path, and add a `split` column with train or val",
        "f.csv, row 2: 'b.png' is not in the val list → write the path exactly as in your list, or remove the row",
        "f.csv, row 3: 'a.png' is already in the val list → drop it from the train list",
    ]


def test_a_patch_does_not_move_an_image_to_a_list_that_has_it(tmp_path: Path, shared: DatasetParameters):
    """If the user's lists later contain a moved image twice, the run stops."""
    fix(tmp_path, shared, Fix("b.png", "move"))
    assert shared.lists is not None
    with (shared.lists / "val_list.txt").open("a") as file:
        file.write("b.png 0\n")
    with pytest.raises(ListFileError, match=r"move b\.png: the val list already contains the image"):
        lines(tmp_path, shared)


def test_images_in_archives_do_not_move(digits: Path, parameters: DatasetParameters):
    """An archive contains only one split, so `move` is rejected."""
    images = list_images(digits, parameters)
    archived = ListedImages(images.layout, images.found, images.classes, can_move=False)
    with pytest.raises(ListFileError, match="cannot move"):
        make_patch(archived, [Fix(image(digits, "val", 1), "move")], source="f.csv", by="Ada", reason="")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"by": "Ada", "rows": []}'])
def test_a_damaged_patch_is_an_error(digits: Path, parameters: DatasetParameters, content: bytes):
    """A file that is named like a patch but is not one stops the run. Other files are ignored."""
    assert parameters.patches is not None
    parameters.patches.mkdir()
    (parameters.patches / "README.md").write_bytes(content)
    assert len(lines(digits, parameters)["train"]) == 40
    (parameters.patches / "0001.json").write_bytes(content)
    with pytest.raises(ListFileError, match=r"0001\.json"):
        lines(digits, parameters)
