"""Each expectation fails for a dataset with the corresponding fault, and passes for a valid dataset."""

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

from image_cases import accepted
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.expectations.claims import CLAIMS, require_known_names
from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT
from resnet50_pipeline.expectations.odd_images import ODD_EXPECTATIONS
from resnet50_pipeline.expectations.report import build_report
from resnet50_pipeline.expectations.validation import Validation, validate_manifest
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.parameters import DataValidationParameters

CONF = Path(__file__).parents[2] / "conf"


def scan(root: Path, class_num: int = 10) -> pd.DataFrame:
    """Return the manifest of a folder."""
    lists = read_lists(find_layout(root), class_num)
    return scan_dataset(root, {split: one.entries for split, one in lists.items()}, workers=1)


def validate(root: Path, class_num: int = 10) -> Validation:
    """Scan a folder and validate it against all expectations, all of them blocking."""
    return validate_manifest(scan(root, class_num), class_num, blocking=tuple(CLAIMS))


def failed(validation: Validation) -> dict[str, tuple[str, ...]]:
    """Return the problems of the failed expectations, keyed by expectation name."""
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
    """Return an image file that contains noise."""
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
    """Remove an image."""
    first(root).unlink()


def replace_with_fifo(root: Path) -> None:
    """Replace an image with a FIFO."""
    path = first(root)
    path.unlink()
    os.mkfifo(path)


def link_outside(root: Path) -> None:
    """Replace a class folder with a link to a folder outside the dataset root."""
    folder = first(root).parent
    folder.rename(root.parent / "elsewhere")
    folder.symlink_to(root.parent / "elsewhere")


def truncate(root: Path) -> None:
    """Cut off the end of an image."""
    path = first(root)
    path.write_bytes(path.read_bytes()[:-2])


def give_another_label(root: Path) -> None:
    """Give one val image the label of another class."""
    edit_list(root, "val", lambda lines: [lines[0].replace(" 0\n", " 1\n"), *lines[1:]])


def permute_val_labels(root: Path) -> None:
    """Shift the label of each val image to the next class."""

    def shift(line: str) -> str:
        path, label = line.split(" ")
        return f"{path} {(int(label) + 1) % 10}\n"

    edit_list(root, "val", lambda lines: [shift(line) for line in lines])


def put_into_both_splits(root: Path) -> None:
    """Replace a val image with a copy of a training image."""
    shutil.copy(first(root, "train"), first(root, "val"))


def rename_val_folder(root: Path) -> None:
    """Rename a class folder in val/ to a name that is not in train/."""
    (root / "val" / "n00000000").rename(root / "val" / "n00000042")
    edit_list(root, "val", lambda lines: [line.replace("n00000000/", "n00000042/") for line in lines])


def drop_class(root: Path) -> None:
    """Remove the last class from both lists and both folders."""
    for split in ("train", "val"):
        edit_list(root, split, lambda lines: [line for line in lines if not line.endswith(" 9\n")])
        shutil.rmtree(root / split / "n00000009")


def drop_class_from_val(root: Path) -> None:
    """Remove the last class from val/."""
    edit_list(root, "val", lambda lines: [line for line in lines if not line.endswith(" 9\n")])
    shutil.rmtree(root / "val" / "n00000009")


def add_unlisted(root: Path) -> None:
    """Add an image that is not in any list."""
    (root / "train" / "n00000000" / "new.jpg").write_bytes(encode())


def copy_within_split(root: Path) -> None:
    """Replace a training image with a copy of another image from the same class."""
    paths = sorted((root / "train" / "n00000000").iterdir())
    shutil.copy(paths[0], paths[1])


def copy_to_another_class(root: Path) -> None:
    """Replace an image with a copy of one in another class."""
    lines = (root / "train_list.txt").read_text().splitlines()
    target = root / "train" / next(line for line in lines if line.endswith(" 1")).split(" ")[0]
    target.write_bytes(first(root).read_bytes())


def add_other_file(root: Path) -> None:
    """Add a file without an image suffix."""
    (root / "train" / "n00000000" / "new.heic").write_bytes(b"heic")


def write_png(root: Path) -> None:
    """Replace a JPEG with a PNG."""
    first(root).write_bytes(encode("L", "PNG"))


def write_cmyk(root: Path) -> None:
    """Replace a grayscale image with a CMYK image."""
    first(root).write_bytes(encode("CMYK"))


def turn(root: Path) -> None:
    """Replace an upright image with one whose EXIF orientation rotates it."""
    first(root).write_bytes(encode("RGB", exif=exif(6)))


def put_orientation_into_xmp(root: Path) -> None:
    """Replace an image with one whose orientation is only in XMP data."""
    first(root).write_bytes(accepted()["JPEG, XMP orientation"])


def add_bytes_behind(root: Path) -> None:
    """Append bytes to an image file."""
    with first(root).open("ab") as file:
        file.write(b"14 more bytes.")


def rename(root: Path) -> None:
    """Change the extension of an image to .jpg."""
    path = first(root)
    path.rename(path.with_suffix(".jpg"))
    edit_list(root, "train", lambda lines: [lines[0].replace(".JPEG", ".jpg"), *lines[1:]])


FAULTS = [
    (remove, {"images_exist": r"^train_list\.txt:1: train/n0+/n0+_\d+\.JPEG .* → "}),
    (replace_with_fifo, {"images_are_files": r"^train_list\.txt:1: train/.*JPEG .*FIFO.* → "}),
    (link_outside, {"images_stay_in_root": r"train/.*JPEG .*/elsewhere/.*JPEG.* → "}),
    (truncate, {"images_decode": r"^train_list\.txt:1: train/.*JPEG .* → "}),
    (
        give_another_label,
        {"labels_follow_folders": r"^val_list\.txt:1: val/.* .*label 1\b.* n0+ .*label 0 → "},
    ),
    (
        permute_val_labels,
        {"labels_follow_folders": r"^val_list\.txt:1: val/.* .*label 1\b.* n0+ .*label 0 → "},
    ),
    (
        rename_val_folder,
        {"labels_follow_folders": r"^val_list\.txt:1: .* label 0, .* n00000000 .* n00000042 → "},
    ),
    (
        put_into_both_splits,
        {"splits_share_no_image": r"^val_list\.txt:1: val/.* .* train_list\.txt:1: train/.* → "},
    ),
    (
        drop_class,
        {"every_class_has_train_images": r"^train_list\.txt: label 9 .* → .*class_num.* 10, .* 9 "},
    ),
    (
        drop_class_from_val,
        {"val_has_the_classes_of_train": r"^val_list\.txt: label 9 \(n00000009\) .* → "},
    ),
    (add_unlisted, {"no_unlisted_images": r"^train/n00000000/new\.jpg .* → "}),
    (copy_within_split, {"images_are_unique": r"^train_list\.txt:2: train/.* .* train_list\.txt:1: .* → "}),
    (
        copy_to_another_class,
        {
            "copies_have_one_label": r"^train_list\.txt:5: train/n00000001/.* .*label 1 \(n00000001\).*"
            r"train_list\.txt:1: train/.*label 0 \(n00000000\) → ",
            "images_are_unique": r"^train_list\.txt:5: train/.* .* train_list\.txt:1: .* → ",
        },
    ),
    (
        add_other_file,
        {"no_other_files": r"^train/ contains unlisted files: 1 file .*\.heic \(train/n00000000/new\.heic\).* → "},
    ),
    (write_png, {"images_are_jpeg": r"^train_list\.txt:1: train/.* .*PNG.* → "}),
    (write_cmyk, {"images_are_rgb_or_grey": r"^train_list\.txt:1: train/.* .*CMYK.* → "}),
    (turn, {"images_are_upright": r"^train_list\.txt:1: train/.* .*orientation 6 .* → "}),
    (
        put_orientation_into_xmp,
        {"images_are_used_in_full": r"^train_list\.txt:1: train/.* .*orientation 6\b.* → "},
    ),
    (
        add_bytes_behind,
        {"nothing_stands_behind_images": r"^train_list\.txt:1: train/.* .*14 bytes .* → "},
    ),
    (rename, {"names_end_in_jpeg": r"^train_list\.txt:1: train/.*\.jpg .*\.JPEG → "}),
]
# List files with these faults are rejected before the scan, so tests edit the manifest instead.
FAULTS_OF_A_MANIFEST = {"train_is_not_empty", "val_is_not_empty", "labels_in_range", "paths_are_unique"}
# test_near_duplicates.py makes the expectations about near-duplicates fail, and test_odd_images.py those about odd
# images.
NEEDS_MORE_DATA = {"images_are_as_they_were", OTHER_SPLIT, OTHER_LABEL}


def test_each_expectation_has_a_fault() -> None:
    """Every expectation is made to fail by a test."""
    with_a_fault = {name for _, names in FAULTS for name in names}
    assert with_a_fault | FAULTS_OF_A_MANIFEST | NEEDS_MORE_DATA | set(ODD_EXPECTATIONS) == set(CLAIMS)


def test_the_sample_passes_all_expectations(digits: Path) -> None:
    """A valid dataset passes all expectations, and the findings are in the order of the claims."""
    validation = validate(digits)
    assert failed(validation) == {}
    assert [finding.name for finding in validation.findings] == [name for name in CLAIMS if name not in NEEDS_MORE_DATA]


@pytest.mark.parametrize(("add_fault", "expected"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_fails_its_expectation_and_no_other(digits: Path, add_fault, expected) -> None:
    """A fault makes only the corresponding expectation fail, and the problem includes the file, line and path."""
    add_fault(digits)
    problems = failed(validate(digits))
    assert problems.keys() == expected.keys()
    for name, pattern in expected.items():
        assert re.search(pattern, problems[name][0])


def test_each_image_of_a_permuted_val_list_is_reported(digits: Path) -> None:
    """If the val labels are permuted, a problem is reported for each val image and for no training image."""
    permute_val_labels(digits)
    problems = failed(validate(digits))["labels_follow_folders"]
    assert len(problems) == 20
    assert all(problem.startswith("val_list.txt:") for problem in problems)


def test_two_folders_with_one_label_are_reported(digits: Path) -> None:
    """The problem lists all folders that share a label."""
    for split in ("train", "val"):
        edit_list(digits, split, lambda lines: [line.replace(" 9\n", " 8\n") for line in lines])
    problems = failed(validate(digits, class_num=9))
    assert problems.keys() == {"labels_follow_folders"}
    assert re.search(r"label 8, .*n00000008, n00000009 → ", problems["labels_follow_folders"][0])


def test_an_empty_split_is_reported(digits: Path) -> None:
    """A manifest without any rows for a split fails, although every check of its images passes."""
    manifest = scan(digits)
    for split in ("train", "val"):
        validation = validate_manifest(manifest[manifest["split"] != split], 10, blocking=tuple(CLAIMS))
        assert f"{split}_is_not_empty" in failed(validation)


def test_faults_of_the_manifest_are_reported(digits: Path) -> None:
    """Out-of-range labels and repeated paths fail in a manifest that was not created from list files."""
    manifest = scan(digits)
    manifest.loc[0, "label"] = 10
    manifest.loc[3, "path"] = manifest.loc[2, "path"]
    problems = failed(validate_manifest(manifest, 10, blocking=()))
    assert problems["labels_in_range"][0].endswith(
        "has label 10, which is outside 0..9 (class_num is 10) → correct the label or dataset.class_num"
    )
    assert re.search(r"^train_list\.txt:4: .* train_list\.txt:3 → ", problems["paths_are_unique"][0])


def test_a_changed_image_is_reported(digits: Path) -> None:
    """An image whose digest differs from an earlier manifest is a problem, but a new image is not."""
    earlier = scan(digits)
    path = first(digits)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    shutil.copy(first(digits, label=1), digits / "train" / "n00000001" / "new.JPEG")
    edit_list(digits, "train", lambda lines: [*lines, "n00000001/new.JPEG 1\n"])
    validation = validate_manifest(scan(digits), 10, tuple(CLAIMS), reference=earlier)
    (problem,) = failed(validation)["images_are_as_they_were"]
    assert re.search(r"^train_list\.txt:1: train/.* .*[0-9a-f]{12}….* → ", problem)


def test_known_png_and_cmyk_images_cause_no_warning(digits: Path) -> None:
    """The PNG image and the 22 CMYK images in ILSVRC2012 are accepted by name. Any others cause a warning."""
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
    assert failed(validate(digits)) == {}
    first(digits, label=2).write_bytes(encode("L", "PNG"))
    first(digits, label=3).write_bytes(encode("CMYK", quality=50))
    problems = failed(validate(digits))
    assert problems.keys() == {"images_are_jpeg", "images_are_rgb_or_grey"}
    assert all(len(of_name) == 1 for of_name in problems.values())


def test_only_blocking_expectations_make_a_dataset_invalid(digits: Path) -> None:
    """A failed expectation makes the report invalid only if it is blocking."""
    add_unlisted(digits)
    manifest = scan(digits)
    for blocking, is_valid in (("images_exist", True), ("no_unlisted_images", False)):
        validation = validate_manifest(manifest, 10, blocking=(blocking,))
        assert build_report(manifest, validation.findings)["is_valid"] == is_valid


def test_blocking_expectations_have_severity_critical(digits: Path) -> None:
    """In the suite, blocking expectations have severity critical and all others have severity warning."""
    validation = validate_manifest(scan(digits), 10, blocking=("images_exist",))
    severities = {one.meta["name"]: one.severity for one in validation.suite.expectations}
    assert severities.pop("images_exist") == "critical"
    assert set(severities.values()) == {"warning"}


def test_unknown_names_are_rejected() -> None:
    """A mistyped name in data_validation.blocking is an error, and the message lists the valid names."""
    with pytest.raises(ParameterError, match=r" image_exists → .*train_is_not_empty, "):
        require_known_names(["images_exist", "image_exists"])


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("*/parameters_data_validation.yml")), ids=lambda path: path.parent.name
)
def test_the_configuration_names_expectations_that_exist(path: Path) -> None:
    """Each name in data_validation.blocking under conf/ is an expectation in the configured suite."""
    parameters = DataValidationParameters.model_validate(yaml.safe_load(path.read_text())["data_validation"])
    require_known_names(parameters.blocking, parameters.suite)
