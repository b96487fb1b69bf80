"""The expectations by name, which `data_validation.blocking` and the reports use, and the suite that they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core.expectation_suite import ExpectationSuite
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.row_conditions import Column

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.expectations.row_expectations import ExpectContentToBeInOneSplit, ExpectLabelsToFollowFolders
from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG

SUITE_NAME = "imagenet_folder"

_LISTED = Column("status") != "unlisted"
_DECODED = Column("status") == "ok"
_TRAIN = (Column("split") == "train") & _LISTED
_VAL = (Column("split") == "val") & _LISTED
_DECODED_AND_NOT_KNOWN = _DECODED & (Column("is_known") == "no")


@dataclass(frozen=True)
class Claim:
    """What an expectation says to a person.

    Attributes:
        name: as `data_validation.blocking` and the reports name it.
        description: the claim, a sentence.
        reason: why it matters, a sentence.
    """

    name: str
    description: str
    reason: str


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "train_is_not_empty",
            "The list of train/ names at least one image.",
            "Every claim about images holds for none at all.",
        ),
        Claim(
            "val_is_not_empty",
            "The list of val/ names at least one image.",
            "Every claim about images holds for none at all.",
        ),
        Claim(
            "images_exist",
            "Every image that a list names is there.",
            "PaddleClas trains on another image in place of one that is missing.",
        ),
        Claim(
            "images_are_files",
            "Every image that a list names is a regular file that can be read.",
            "Reading a FIFO or a device never ends; a folder is no image.",
        ),
        Claim(
            "images_stay_in_root",
            "No image lies outside the dataset root by way of a symbolic link.",
            "What lies outside is neither versioned nor copied along.",
        ),
        Claim(
            "images_decode",
            "Every pixel of every image can be decoded.",
            "OpenCV decodes a file that was cut off without a word and makes up the rest.",
        ),
        Claim(
            "labels_in_range",
            "Every label is one of 0..class_num-1.",
            "The loss of any other label is not defined.",
        ),
        Claim(
            "labels_follow_folders",
            "All images of a class folder have one label, in train/ and in val/, and no other folder has it.",
            "A val list with permuted labels looks like a model that learns nothing.",
        ),
        Claim(
            "paths_are_unique",
            "No image is named twice.",
            "An image with two labels contradicts itself, one that is repeated counts more than others.",
        ),
        Claim(
            "splits_share_no_image",
            "No image of val/ has the content of one of train/.",
            "Accuracy on images that were trained on says nothing.",
        ),
        Claim(
            "every_class_has_train_images",
            "Each of the labels 0..class_num-1 has images in train/.",
            "A class without images cannot be learned; usually class_num is wrong, or folders were not copied.",
        ),
        Claim(
            "val_has_the_classes_of_train",
            "val/ has images of the very classes that train/ has.",
            "The accuracy of a class without val images is unknown.",
        ),
        Claim(
            "no_unlisted_images",
            "Every image below train/ and val/ is named by a list.",
            "Images that no list names are not trained on; perhaps a list is out of date.",
        ),
        Claim(
            "images_are_unique",
            "No two images of a split have the same content.",
            "Copies weigh more than other images. ImageNet itself has some.",
        ),
        Claim(
            "images_are_jpeg",
            "Every image is a JPEG file by content, the known PNG of ILSVRC2012 aside.",
            "Others train just as well, but show that the folder is not what it was.",
        ),
        Claim(
            "images_are_rgb_or_grey",
            "Every image is RGB or grey, the 22 known CMYK images of ILSVRC2012 aside.",
            "Others are converted while decoding, which changes colours or drops transparency.",
        ),
        Claim(
            "images_are_upright",
            "No image needs to be turned by an EXIF orientation, and all EXIF data can be read.",
            "Training, evaluation and serving here turn such images alike; other programs may not.",
        ),
        Claim(
            "names_end_in_jpeg",
            "Every image's name ends in .JPEG.",
            "ImageNet's do; .jpg or .png beside them come from somewhere else.",
        ),
    )
}


def check_names(names: Iterable[str]) -> None:
    """Make sure that all `names` are names of expectations.

    Raises:
        ParameterError: with those that are not.
    """
    unknown = sorted(set(names) - set(CLAIMS))
    if unknown:
        raise ParameterError(
            f"data_validation.blocking names expectations that do not exist: {', '.join(unknown)} → "
            f"choose from {', '.join(CLAIMS)}"
        )


def add_known_images(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest with a column `is_known`: "yes" for ILSVRC2012's 1 PNG and 22 CMYK images, else "no"."""
    names = manifest["path"].str.rpartition("/")[2]
    return manifest.assign(is_known=names.isin(KNOWN_PNG | KNOWN_CMYK).map({True: "yes", False: "no"}))


def build_suite(class_num: int, train_labels: Iterable[int], blocking: Iterable[str]) -> ExpectationSuite:
    """Return the suite for a manifest that went through `add_known_images`.

    Args:
        class_num: number of classes.
        train_labels: the labels that train/ has, which val/ must have as well.
        blocking: names of expectations whose severity is critical; that of the others is warning.
    """
    blocking = set(blocking)
    expectations = _build_expectations(class_num, sorted(set(train_labels)))
    for name, expectation in expectations.items():
        claim = CLAIMS[name]
        expectation.description = f"{claim.description} {claim.reason}"
        expectation.severity = "critical" if name in blocking else "warning"
        expectation.meta = {"name": name}
    return gx.ExpectationSuite(name=SUITE_NAME, expectations=list(expectations.values()))


def _build_expectations(class_num: int, train_labels: list[int]) -> dict[str, Expectation]:
    def status_is_not(status: str) -> Expectation:
        return gxe.ExpectColumnValuesToNotBeInSet(column="status", value_set=[status], row_condition=_LISTED)

    return {
        "train_is_not_empty": gxe.ExpectTableRowCountToBeBetween(min_value=1, row_condition=_TRAIN),
        "val_is_not_empty": gxe.ExpectTableRowCountToBeBetween(min_value=1, row_condition=_VAL),
        "images_exist": status_is_not("missing"),
        "images_are_files": status_is_not("not_a_file"),
        "images_stay_in_root": status_is_not("outside_root"),
        "images_decode": status_is_not("undecodable"),
        "labels_in_range": gxe.ExpectColumnValuesToBeBetween(
            column="label", min_value=0, max_value=class_num - 1, row_condition=_LISTED
        ),
        "labels_follow_folders": ExpectLabelsToFollowFolders(row_condition=_LISTED),
        "paths_are_unique": gxe.ExpectColumnValuesToBeUnique(column="path", row_condition=_LISTED),
        "splits_share_no_image": ExpectContentToBeInOneSplit(row_condition=_LISTED),
        "every_class_has_train_images": gxe.ExpectColumnDistinctValuesToContainSet(
            column="label", value_set=list(range(class_num)), row_condition=_TRAIN
        ),
        "val_has_the_classes_of_train": gxe.ExpectColumnDistinctValuesToEqualSet(
            column="label", value_set=train_labels, row_condition=_VAL
        ),
        "no_unlisted_images": gxe.ExpectColumnValuesToNotBeInSet(column="status", value_set=["unlisted"]),
        "images_are_unique": gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["split", "sha256"], row_condition=_DECODED
        ),
        "images_are_jpeg": gxe.ExpectColumnValuesToBeInSet(
            column="format", value_set=["JPEG"], row_condition=_DECODED_AND_NOT_KNOWN
        ),
        "images_are_rgb_or_grey": gxe.ExpectColumnValuesToBeInSet(
            column="mode", value_set=["RGB", "L"], row_condition=_DECODED_AND_NOT_KNOWN
        ),
        "images_are_upright": gxe.ExpectColumnValuesToBeInSet(
            column="exif_orientation", value_set=[1], row_condition=_DECODED
        ),
        "names_end_in_jpeg": gxe.ExpectColumnValuesToMatchRegex(column="path", regex=r"\.JPEG$", row_condition=_LISTED),
    }
