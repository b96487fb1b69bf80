"""The ilsvrc2012 suite passes for a manifest as large as ILSVRC2012, and fails for one with faults."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.expectations import claims
from resnet50_pipeline.expectations.batch import build_batch, digest_synsets
from resnet50_pipeline.expectations.claims import CLAIMS, ILSVRC2012_CLAIMS, require_known_names
from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT
from resnet50_pipeline.expectations.odd_images import ODD_EXPECTATIONS
from resnet50_pipeline.expectations.validation import Validation, validate_manifest
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.scan.manifest import MANIFEST_COLUMNS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    """A manifest with the same counts as ILSVRC2012 and mostly made-up synsets."""
    from validation_expectations import make_manifest

    manifest = make_manifest()
    assert sorted(manifest.columns) == sorted(MANIFEST_COLUMNS)
    return manifest


@pytest.fixture
def small(whole: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A subset with 4 train (including the known ones) and 2 val images per class, and a suite with these counts.

    The fixture patches the counts in the suite so that a test takes a second instead of a minute.
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
    """Validate a manifest against the ilsvrc2012 suite, with all expectations blocking."""
    return validate_manifest(
        manifest, 1000, tuple(name for name in (*CLAIMS, *ILSVRC2012_CLAIMS)), suite_name="ilsvrc2012"
    )


def failed(manifest: pd.DataFrame) -> dict[str, list[str]]:
    """Return the problems of the failed expectations, keyed by expectation name."""
    findings = validate(manifest).findings
    return {one.name: [str(problem) for problem in one.problems] for one in findings if not one.success}


def test_the_counts_of_ilsvrc2012_pass(whole: pd.DataFrame) -> None:
    """A manifest with the image and class counts of ILSVRC2012 passes all checks on counts and known images."""
    validation = validate(whole)
    # The made-up sizes vary so much that a few images are odd for their class.
    assert {one.name for one in validation.findings if not one.success} == {
        "synsets_are_those_of_ilsvrc2012",
        "sizes_fit_their_class",
    }
    observed = {one.name: one.observed for one in validation.findings}
    assert observed["train_has_1281167_images"] == "1,281,167 images"


def test_a_valid_manifest_passes(small: pd.DataFrame) -> None:
    """A manifest without faults passes all expectations."""
    assert failed(small) == {}


def test_a_missing_image_fails_the_counts_of_its_split_and_class(small: pd.DataFrame) -> None:
    """A missing image is reported for its split and its class, but not for any other class."""
    row = int(np.flatnonzero(small["label"] == 7)[0])
    synset = small.loc[row, "synset"]
    problems = failed(small.drop(index=row))
    assert problems.keys() == {"train_has_1281167_images", "train_classes_have_732_to_1300_images"}
    assert problems["train_has_1281167_images"][0].startswith("train_list.txt: train/ has 3,999 ")
    (problem,) = problems["train_classes_have_732_to_1300_images"]
    assert problem.startswith(f"train_list.txt: label 7 ({synset}) has 3 images")


def test_a_val_image_of_another_class_fails_the_counts_of_both(small: pd.DataFrame) -> None:
    """A val image with the label of another class is reported for both classes."""
    row = int(np.flatnonzero((small["label"] == 7) & (small["split"] == "val"))[0])
    small.loc[row, ["label", "synset"]] = [8, small.loc[small["label"] == 8, "synset"].iloc[0]]
    problems = failed(small)
    assert problems.keys() == {"val_classes_have_50_images"}
    assert [problem.split(" ")[1:3] for problem in sorted(problems["val_classes_have_50_images"])] == [
        ["label", "7"],
        ["label", "8"],
    ]


def test_labels_in_another_order_are_one_problem_per_class(small: pd.DataFrame) -> None:
    """Labels in a different order, such as the development kit's, are reported once per class, not once per image."""
    small["label"] = (small["label"] + 1) % 1000
    problems = failed(small)
    assert problems.keys() == {"labels_follow_sorted_synsets"}
    assert len(problems["labels_follow_sorted_synsets"]) == 1000
    assert re.search(r"label 1 \(n01000000\) .*\b0\b.* → ", problems["labels_follow_sorted_synsets"][0])


def test_other_synsets_are_reported(small: pd.DataFrame) -> None:
    """A class folder that is not in ILSVRC2012 is reported as one problem for the entire dataset."""
    small["synset"] = small["synset"].replace("n01000000", "n00999999")
    problems = failed(small)
    assert problems.keys() == {"synsets_are_those_of_ilsvrc2012"}
    assert len(problems["synsets_are_those_of_ilsvrc2012"]) == 1
    assert problems["synsets_are_those_of_ilsvrc2012"][0].startswith("train_list.txt: ")


def test_a_missing_class_is_reported(small: pd.DataFrame) -> None:
    """If there are 999 classes, the class count check fails."""
    problems = failed(small[small["label"] != 999])
    assert problems["train_has_1000_classes"][0].startswith("train_list.txt: train/ has 999 ")


def test_converted_known_images_are_reported_by_name(small: pd.DataFrame) -> None:
    """A PNG converted to JPEG, a CMYK image converted to RGB, and a missing CMYK image are reported by name."""
    names = small["path"].str.rpartition("/")[2]
    png, first, second = min(KNOWN_PNG), *sorted(KNOWN_CMYK)[:2]
    small.loc[names == png, "format"] = "JPEG"
    small.loc[names == first, "mode"] = "RGB"
    small.loc[names == second, "path"] = "train/other.JPEG"
    small.loc[names == second, "mode"] = "RGB"
    problems = failed(small)
    assert problems.keys() == {"known_png_is_there", "known_cmyk_are_there"}
    line = int(np.flatnonzero(names == png)[0]) + 1
    assert re.match(rf"train_list\.txt:{line}: train/n02105855/{png}\b.*JPEG RGB", problems["known_png_is_there"][0])
    converted, missing = problems["known_cmyk_are_there"]
    assert re.search(rf"/{first}\b.*JPEG RGB.*CMYK", converted)
    assert missing.startswith(f"train_list.txt: {second}")


def test_claims_about_unread_content_are_not_checked(small: pd.DataFrame) -> None:
    """A header scan leaves claims about content unchecked, and a folder scan also leaves claims about headers."""
    header = small.assign(sha256="")
    unchecked = {one.name for one in validate(header).findings if not one.is_checked}
    content = {"images_decode", "splits_share_no_image", "images_are_unique", "copies_have_one_label"}
    assert unchecked == content | set(ODD_EXPECTATIONS[:5])
    structure = header.assign(format="", mode="")
    findings = {one.name: one for one in validate(structure).findings}
    unchecked = {name for name, one in findings.items() if not one.is_checked}
    assert unchecked == {name for name, claim in (CLAIMS | ILSVRC2012_CLAIMS).items() if claim.reads != "folders"} - {
        *("images_are_as_they_were", OTHER_SPLIT, OTHER_LABEL)
    }
    assert "not checked" in findings["images_are_jpeg"].observed
    assert all(one.success for one in findings.values())


def test_names_of_the_other_suite_are_rejected() -> None:
    """The name of an expectation from another suite raises an error that mentions the setting."""
    with pytest.raises(ParameterError, match=r" val_has_50000_images → .*data_validation\.suite"):
        require_known_names(["val_has_50000_images"], "imagenet_layout")
    require_known_names(["val_has_50000_images"], "ilsvrc2012")


def test_the_batch_takes_little_memory(whole: pd.DataFrame) -> None:
    """The table that Great Expectations copies takes less than 150 bytes per row, not counting the category values."""
    batch = build_batch(whole.head(100_000).reset_index(drop=True))
    assert sum(batch[name].memory_usage(index=False, deep=False) for name in batch) / len(batch) < 150
