"""The suite ilsvrc2012 against a manifest of ILSVRC2012's own size and counts, whole and with faults."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.expectations import claims
from resnet50_pipeline.expectations.batch import build_batch, digest_synsets
from resnet50_pipeline.expectations.claims import CLAIMS, ILSVRC2012_CLAIMS, check_names
from resnet50_pipeline.expectations.validation import Validation, validate_manifest
from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    """A manifest with ILSVRC2012's counts, whose other synsets are made up."""
    from validation_expectations import make_manifest

    return make_manifest()


@pytest.fixture
def small(whole: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Of the same manifest 4 train images a class, the known ones included, and 2 val images, in a suite of that size.

    The counts are the suite's constants, so that one fault at a time takes a second and not a minute.
    """
    from resnet50_pipeline.expectations import suite

    is_train = whole["split"] == "train"
    train = whole[is_train].groupby("label", sort=False).head(4)
    val = whole[~is_train].groupby("label", sort=False).head(2)
    small = pd.concat([train, val], ignore_index=True)
    for name, value in {
        "TRAIN_IMAGES": 4000,
        "VAL_IMAGES": 2000,
        "MIN_TRAIN_IMAGES_PER_CLASS": 4,
        "MAX_TRAIN_IMAGES_PER_CLASS": 4,
        "VAL_IMAGES_PER_CLASS": 2,
    }.items():
        monkeypatch.setattr(claims, name, value)
    monkeypatch.setattr(suite, "IMAGENET_SYNSETS_DIGEST", digest_synsets(small["synset"].unique().tolist()))
    return small


def validate(manifest: pd.DataFrame) -> Validation:
    """Hold a manifest against the suite ilsvrc2012, everything blocking."""
    return validate_manifest(
        manifest, 1000, tuple(name for name in (*CLAIMS, *ILSVRC2012_CLAIMS)), suite_name="ilsvrc2012"
    )


def broken(manifest: pd.DataFrame) -> dict[str, list[str]]:
    """Return the problems of the expectations that do not hold, by name."""
    findings = validate(manifest).findings
    return {one.name: [str(problem) for problem in one.problems] for one in findings if not one.success}


def test_the_counts_of_ilsvrc2012_hold(whole: pd.DataFrame) -> None:
    """1,281,167 and 50,000 images in 1000 classes of 732 to 1300 and of 50, the known images as they are: all hold."""
    validation = validate(whole)
    assert {one.name for one in validation.findings if not one.success} == {"synsets_are_those_of_ilsvrc2012"}
    seen = {one.name: one.observed for one in validation.findings}
    assert seen["train_has_1281167_images"] == "1,281,167 images"
    assert seen["known_cmyk_are_there"] == "all are there"


def test_without_a_fault_all_hold(small: pd.DataFrame) -> None:
    """Nothing is wrong with a manifest with which nothing is wrong."""
    assert broken(small) == {}


def test_a_missing_image_breaks_counts_of_split_and_class(small: pd.DataFrame) -> None:
    """One image fewer is told of the split and of its class, with its synset, and of no other class."""
    row = int(np.flatnonzero(small["label"] == 7)[0])
    synset = small.loc[row, "synset"]
    problems = broken(small.drop(index=row))
    assert problems.keys() == {"train_has_1281167_images", "train_classes_have_732_to_1300_images"}
    assert problems["train_has_1281167_images"][0].startswith("train_list.txt: train/ has 3,999 images, but ILSVRC2012")
    (told,) = problems["train_classes_have_732_to_1300_images"]
    assert told.startswith(f"train_list.txt: label 7 ({synset}) has 3 images in train/, but 4 to 4 in ILSVRC2012 → ")


def test_val_images_of_another_class_break_the_count_of_both(small: pd.DataFrame) -> None:
    """A val image that was given to another class is told of both classes."""
    row = int(np.flatnonzero((small["label"] == 7) & (small["split"] == "val"))[0])
    small.loc[row, ["label", "synset"]] = [8, small.loc[small["label"] == 8, "synset"].iloc[0]]
    problems = broken(small)
    assert problems.keys() == {"val_classes_have_50_images"}
    assert [problem.split(" ")[1:3] for problem in sorted(problems["val_classes_have_50_images"])] == [
        ["label", "7"],
        ["label", "8"],
    ]


def test_labels_in_another_order_are_told_once_a_class(small: pd.DataFrame) -> None:
    """Labels of another order, such as the development kit's, are one problem a class, not one an image."""
    small["label"] = (small["label"] + 1) % 1000
    problems = broken(small)
    assert problems.keys() == {"labels_follow_sorted_synsets"}
    assert len(problems["labels_follow_sorted_synsets"]) == 1000
    assert "label 1 (n01000000) is at place 0 of the sorted synsets → " in problems["labels_follow_sorted_synsets"][0]


def test_another_thousand_synsets_are_told(small: pd.DataFrame) -> None:
    """A class folder that is not ILSVRC2012's is one problem of the data set."""
    small["synset"] = small["synset"].replace("n01000000", "n00999999")
    problems = broken(small)
    assert problems.keys() == {"synsets_are_those_of_ilsvrc2012"}
    assert problems["synsets_are_those_of_ilsvrc2012"][0].startswith("train_list.txt: the class folders are not the")


def test_a_class_fewer_is_told(small: pd.DataFrame) -> None:
    """999 classes break the count of classes, besides what else that breaks."""
    problems = broken(small[small["label"] != 999])
    assert problems["train_has_1000_classes"][0].startswith("train_list.txt: train/ has 999 labels, but ILSVRC2012 has")


def test_converted_known_images_are_told_by_name(small: pd.DataFrame) -> None:
    """The PNG as a JPEG, a CMYK image as RGB, and one that is gone, are each told by name."""
    names = small["path"].str.rpartition("/")[2]
    png, first, second = min(KNOWN_PNG), *sorted(KNOWN_CMYK)[:2]
    small.loc[names == png, "format"] = "JPEG"
    small.loc[names == first, "mode"] = "RGB"
    small.loc[names == second, "path"] = "train/other.JPEG"
    small.loc[names == second, "mode"] = "RGB"
    problems = broken(small)
    assert problems.keys() == {"known_png_is_there", "known_cmyk_are_there"}
    line = int(np.flatnonzero(names == png)[0]) + 1
    assert problems["known_png_is_there"][0].startswith(
        f"train_list.txt:{line}: train/n02105855/{png}: is JPEG RGB, but"
    )
    assert [problem.split(" → ")[0].split(": ")[-1] for problem in problems["known_cmyk_are_there"]] == [
        "is JPEG RGB, but CMYK in ILSVRC2012",
        f"{second}, CMYK in ILSVRC2012, is in no list",
    ]


def test_what_a_scan_did_not_read_is_not_taken_for_granted(small: pd.DataFrame) -> None:
    """After a scan of headers, claims about content are not checked; after one of folders, those about headers too."""
    header = small.assign(sha256="")
    unchecked = {one.name for one in validate(header).findings if not one.is_checked}
    assert unchecked == {"images_decode", "splits_share_no_image", "images_are_unique"}
    structure = header.assign(format="", mode="")
    findings = {one.name: one for one in validate(structure).findings}
    unchecked = {name for name, one in findings.items() if not one.is_checked}
    assert unchecked == {name for name, claim in (CLAIMS | ILSVRC2012_CLAIMS).items() if claim.reads != "folders"} - {
        "images_are_as_they_were"
    }
    assert findings["images_are_jpeg"].observed == (
        "not checked at this level: the scan did not read the headers of the images"
    )
    assert all(one.success for one in findings.values())


def test_names_of_the_other_suite_are_refused_with_the_setting() -> None:
    """data_validation.blocking may not name what its suite does not have."""
    with pytest.raises(ParameterError, match=r"does not have: val_has_50000_images → set data_validation\.suite"):
        check_names(["val_has_50000_images"], "imagenet_layout")
    check_names(["val_has_50000_images"], "ilsvrc2012")


def test_the_batch_is_small(whole: pd.DataFrame) -> None:
    """What Great Expectations copies takes less than 150 bytes a row, values that stand once included not."""
    batch = build_batch(whole.head(100_000).reset_index(drop=True))
    assert sum(batch[name].memory_usage(index=False, deep=False) for name in batch) / len(batch) < 150
