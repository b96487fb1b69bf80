"""Each expectation against a data set that really breaks it, and against one that does not."""

import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.expectations.claims import CLAIMS, check_names
from resnet50_pipeline.expectations.validation import Validation, validate_manifest
from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan import scan_dataset
from resnet50_pipeline.parameters import DataValidationParameters

CONF = Path(__file__).parents[2] / "conf"


def scan(root: Path, class_num: int = 10) -> pd.DataFrame:
    """Return the manifest of a folder."""
    lists = read_lists(find_layout(root), class_num)
    return scan_dataset(root, {split: one.entries for split, one in lists.items()}, workers=1)


def validate(root: Path, class_num: int = 10) -> Validation:
    """Scan a folder and hold it against all expectations."""
    return validate_manifest(scan(root, class_num), class_num, blocking=tuple(CLAIMS))


def broken(validation: Validation) -> dict[str, tuple[str, ...]]:
    """Return the problems of the expectations that do not hold, by name."""
    return {
        finding.name: tuple(str(problem) for problem in finding.problems)
        for finding in validation.findings
        if not finding.success
    }


def first(root: Path, split: str = "train", label: int = 0) -> Path:
    """Return the first listed image of a class."""
    lines = (root / f"{split}_list.txt").read_text().splitlines()
    return root / split / next(line.split(" ")[0] for line in lines if line.endswith(f" {label}"))


def edit_list(root: Path, split: str, edit: Callable[[list[str]], list[str]]) -> None:
    """Replace the lines of a list."""
    path = root / f"{split}_list.txt"
    path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))


def encode(mode: str = "RGB", image_format: str = "JPEG", **options: object) -> bytes:
    """Return an image file of noise."""
    random = np.random.default_rng(sum(map(ord, mode + image_format)))
    channels = {"RGB": 3, "CMYK": 4, "L": 1}[mode]
    image = Image.frombytes(mode, (28, 28), random.bytes(28 * 28 * channels))
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """Return EXIF data with an orientation."""
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def remove(root: Path) -> None:
    """Take an image away."""
    first(root).unlink()


def replace_by_fifo(root: Path) -> None:
    """Put a FIFO in the place of an image."""
    path = first(root)
    path.unlink()
    os.mkfifo(path)


def link_outside(root: Path) -> None:
    """Put a link to a folder outside in the place of a class folder."""
    folder = first(root).parent
    folder.rename(root.parent / "elsewhere")
    folder.symlink_to(root.parent / "elsewhere")


def truncate(root: Path) -> None:
    """Cut an image off."""
    path = first(root)
    path.write_bytes(path.read_bytes()[:-2])


def give_another_label(root: Path) -> None:
    """Give one val image the label of another class."""
    edit_list(root, "val", lambda lines: [lines[0].replace(" 0\n", " 1\n"), *lines[1:]])


def permute_val_labels(root: Path) -> None:
    """Make the val list with another order of classes."""

    def shift(line: str) -> str:
        path, label = line.split(" ")
        return f"{path} {(int(label) + 1) % 10}\n"

    edit_list(root, "val", lambda lines: [shift(line) for line in lines])


def put_into_both_splits(root: Path) -> None:
    """Make a val image a copy of a train image."""
    shutil.copy(first(root, "train"), first(root, "val"))


def rename_val_folder(root: Path) -> None:
    """Give a class folder of val/ a name that train/ does not have."""
    (root / "val" / "n00000000").rename(root / "val" / "n00000042")
    edit_list(root, "val", lambda lines: [line.replace("n00000000/", "n00000042/") for line in lines])


def drop_class(root: Path) -> None:
    """Take the last class out of both lists and both folders."""
    for split in ("train", "val"):
        edit_list(root, split, lambda lines: [line for line in lines if not line.endswith(" 9\n")])
        shutil.rmtree(root / split / "n00000009")


def drop_class_from_val(root: Path) -> None:
    """Take the last class out of val/."""
    edit_list(root, "val", lambda lines: [line for line in lines if not line.endswith(" 9\n")])
    shutil.rmtree(root / "val" / "n00000009")


def add_unlisted(root: Path) -> None:
    """Put another image beside the listed ones."""
    (root / "train" / "n00000000" / "new.jpg").write_bytes(encode())


def copy_within_split(root: Path) -> None:
    """Make a train image a copy of another one of its class."""
    paths = sorted((root / "train" / "n00000000").iterdir())
    shutil.copy(paths[0], paths[1])


def write_png(root: Path) -> None:
    """Put a PNG in the place of a JPEG."""
    first(root).write_bytes(encode("L", "PNG"))


def write_cmyk(root: Path) -> None:
    """Put a CMYK image in the place of a grey one."""
    first(root).write_bytes(encode("CMYK"))


def turn(root: Path) -> None:
    """Put an image that lies on its side in the place of an upright one."""
    first(root).write_bytes(encode("RGB", exif=exif(6)))


def add_bytes_behind(root: Path) -> None:
    """Put something behind the end of an image."""
    with first(root).open("ab") as file:
        file.write(b"behind the end")


def rename(root: Path) -> None:
    """Give an image another suffix."""
    path = first(root)
    path.rename(path.with_suffix(".jpg"))
    edit_list(root, "train", lambda lines: [lines[0].replace(".JPEG", ".jpg"), *lines[1:]])


BREAKERS = [
    (remove, {"images_exist": r"^train_list\.txt:1: train/n0+/n0+_\d+\.JPEG: is missing → put the image there"}),
    (replace_by_fifo, {"images_are_files": r"^train_list\.txt:1: train/.*JPEG: is a FIFO → "}),
    (link_outside, {"images_stay_in_root": r"symbolic link out of the dataset root, to .*/elsewhere/.*JPEG → copy"}),
    (truncate, {"images_decode": r"^train_list\.txt:1: train/.*: cannot be decoded whole: .* → replace it"}),
    (
        give_another_label,
        {"labels_follow_folders": r"^val_list\.txt:1: val/.*: label 1, but train images of n0+ have label 0 → "},
    ),
    (
        permute_val_labels,
        {"labels_follow_folders": r"label 1, but train images of n0+ have label 0 → .* another order"},
    ),
    (
        rename_val_folder,
        {"labels_follow_folders": r"^val_list\.txt:1: .*: label 0 is that of n0+ in train/, which has no"},
    ),
    (
        put_into_both_splits,
        {"splits_share_no_image": r"^val_list\.txt:1: val/.*: has the content of train_list\.txt:1: train/.* → take"},
    ),
    (
        drop_class,
        {"every_class_has_train_images": r"^train_list\.txt: label 9 has no image → .* \(it is 10, and 9 labels have"},
    ),
    (
        drop_class_from_val,
        {"val_has_the_classes_of_train": r"^val_list\.txt: label 9 \(n00000009\) has images in train/, but none"},
    ),
    (add_unlisted, {"no_unlisted_images": r"^train/n00000000/new\.jpg: is in no list → add"}),
    (copy_within_split, {"images_are_unique": r"^train_list\.txt:2: train/.*: has the content of train_list\.txt:1: "}),
    (write_png, {"images_are_jpeg": r"^train_list\.txt:1: train/.*: is PNG by content → "}),
    (write_cmyk, {"images_are_rgb_or_grey": r"^train_list\.txt:1: train/.*: has pixels of mode CMYK, .* → "}),
    (turn, {"images_are_upright": r"^train_list\.txt:1: train/.*: has EXIF orientation 6, .* → save it upright"}),
    (
        add_bytes_behind,
        {"nothing_stands_behind_images": r"^train_list\.txt:1: train/.*: goes on for 14 bytes behind the end .* → see"},
    ),
    (rename, {"names_end_in_jpeg": r"^train_list\.txt:1: train/.*\.jpg: does not end in \.JPEG → "}),
]
# These are broken through the manifest, for the lists are checked before they can become one.
BROKEN_IN_THE_MANIFEST = {"train_is_not_empty", "val_is_not_empty", "labels_in_range", "paths_are_unique"}
# This one is about an earlier manifest.
BROKEN_BY_AN_EARLIER_MANIFEST = {"images_are_as_they_were"}


def test_every_expectation_is_broken_by_a_test() -> None:
    """No expectation is without a data set that breaks it."""
    by_data_sets = {name for _, names in BREAKERS for name in names}
    assert by_data_sets | BROKEN_IN_THE_MANIFEST | BROKEN_BY_AN_EARLIER_MANIFEST == set(CLAIMS)


def test_the_sample_meets_all_expectations(digits: Path) -> None:
    """Nothing is wrong with a data set with which nothing is wrong; the findings are in the order of the claims."""
    validation = validate(digits)
    assert broken(validation) == {}
    assert [finding.name for finding in validation.findings] == [
        name for name in CLAIMS if name not in BROKEN_BY_AN_EARLIER_MANIFEST
    ]
    assert validation.is_valid


@pytest.mark.parametrize(("break_dataset", "expected"), BREAKERS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_data_set_breaks_its_expectation_and_no_other(digits: Path, break_dataset, expected) -> None:
    """A fault is found by the expectation that is about it; the problem names the place and the next step."""
    break_dataset(digits)
    problems = broken(validate(digits))
    assert problems.keys() == expected.keys()
    for name, pattern in expected.items():
        assert re.search(pattern, problems[name][0])


def test_a_permuted_val_list_is_told_for_every_image(digits: Path) -> None:
    """Every image of a val list with permuted labels is a problem, none of train/."""
    permute_val_labels(digits)
    problems = broken(validate(digits))["labels_follow_folders"]
    assert len(problems) == 20
    assert all(problem.startswith("val_list.txt:") for problem in problems)


def test_two_folders_with_one_label_are_told(digits: Path) -> None:
    """Folders that share a label are named together."""
    for split in ("train", "val"):
        edit_list(digits, split, lambda lines: [line.replace(" 9\n", " 8\n") for line in lines])
    problems = broken(validate(digits, class_num=9))
    assert problems.keys() == {"labels_follow_folders"}
    assert (
        "label 8 is that of n00000008, n00000009 → give each folder a label of its own"
        in problems["labels_follow_folders"][0]
    )


def test_an_empty_split_is_told(digits: Path) -> None:
    """A manifest without rows of a split, of which every claim about images would hold, is invalid."""
    manifest = scan(digits)
    for split in ("train", "val"):
        validation = validate_manifest(manifest[manifest["split"] != split], 10, blocking=tuple(CLAIMS))
        assert f"{split}_is_not_empty" in broken(validation)
        assert not validation.is_valid


def test_faults_of_a_manifest_itself_are_told(digits: Path) -> None:
    """Labels out of range and repeated paths are found in a manifest too, whoever made it."""
    manifest = scan(digits)
    manifest.loc[0, "label"] = 10
    manifest.loc[3, "path"] = manifest.loc[2, "path"]
    problems = broken(validate_manifest(manifest, 10, blocking=()))
    assert problems["labels_in_range"][0].endswith(
        "label 10 is outside 0..9 (class_num is 10) → correct the label or dataset.class_num"
    )
    assert re.search(
        r"^train_list\.txt:4: .*: also named at train_list\.txt:3 → delete", problems["paths_are_unique"][0]
    )


def test_an_image_that_was_changed_since_is_named(digits: Path) -> None:
    """Against an earlier manifest, an image with another digest is a problem; one that is new is none."""
    earlier = scan(digits)
    path = first(digits)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    shutil.copy(first(digits, label=1), digits / "train" / "n00000001" / "new.JPEG")
    edit_list(digits, "train", lambda lines: [*lines, "n00000001/new.JPEG 1\n"])
    validation = validate_manifest(scan(digits), 10, tuple(CLAIMS), reference=earlier)
    (problem,) = broken(validation)["images_are_as_they_were"]
    assert re.search(
        r"^train_list\.txt:1: train/.*: has the digest [0-9a-f]{12}…, and another in the .* → restore", problem
    )


def test_the_known_oddities_of_imagenet_are_no_warning(digits: Path) -> None:
    """The one PNG and the 22 CMYK images of ILSVRC2012 are known by name; any other one is a warning."""
    assert len(KNOWN_PNG) == 1
    assert len(KNOWN_CMYK) == 22
    for number, (name, data) in enumerate([(min(KNOWN_PNG), encode("RGB", "PNG")), (min(KNOWN_CMYK), encode("CMYK"))]):
        path = first(digits, label=number)
        path.unlink()
        (path.parent / name).write_bytes(data)
        edit_list(
            digits,
            "train",
            lambda lines, old=path.name, new=name: [line.replace(f"/{old} ", f"/{new} ") for line in lines],
        )
    assert broken(validate(digits)) == {}
    first(digits, label=2).write_bytes(encode("L", "PNG"))
    first(digits, label=3).write_bytes(encode("CMYK", quality=50))
    problems = broken(validate(digits))
    assert problems.keys() == {"images_are_jpeg", "images_are_rgb_or_grey"}
    assert all(len(of_name) == 1 for of_name in problems.values())


def test_only_blocking_expectations_make_a_data_set_invalid(digits: Path) -> None:
    """A warning leaves the data set valid; the same finding, when it is blocking, does not."""
    add_unlisted(digits)
    manifest = scan(digits)
    assert validate_manifest(manifest, 10, blocking=("images_exist",)).is_valid
    assert not validate_manifest(manifest, 10, blocking=("no_unlisted_images",)).is_valid


def test_great_expectations_knows_which_are_critical(digits: Path) -> None:
    """In the suite, blocking expectations have the severity critical, the others warning."""
    validation = validate_manifest(scan(digits), 10, blocking=("images_exist",))
    severities = {one.meta["name"]: one.severity for one in validation.suite.expectations}
    assert severities.pop("images_exist") == "critical"
    assert set(severities.values()) == {"warning"}


def test_unknown_names_are_refused() -> None:
    """A mistyped name in data_validation.blocking is an error that lists the right ones."""
    with pytest.raises(ParameterError, match=r"do not exist: image_exists → choose from train_is_not_empty, "):
        check_names(["images_exist", "image_exists"])


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("*/parameters_data_validation.yml")), ids=lambda path: path.parent.name
)
def test_the_configuration_names_expectations_that_exist(path: Path) -> None:
    """Every name under conf/ is that of an expectation of the suite that stands beside it."""
    parameters = DataValidationParameters.model_validate(yaml.safe_load(path.read_text())["data_validation"])
    check_names(parameters.blocking, parameters.suite)
