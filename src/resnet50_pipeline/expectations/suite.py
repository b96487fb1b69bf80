"""Builds the Great Expectations suite that checks the claims about a dataset."""

from __future__ import annotations

from collections.abc import Iterable

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core.expectation_suite import ExpectationSuite
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.row_conditions import Column

from resnet50_pipeline.expectations import claims
from resnet50_pipeline.expectations.batch import EMPTY
from resnet50_pipeline.expectations.claims import SUITES, SuiteName
from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT
from resnet50_pipeline.expectations.odd_images import ODD_EXPECTATIONS
from resnet50_pipeline.expectations.row_expectations import ExpectContentToBeInOneSplit, ExpectLabelsToFollowFolders
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.synsets import IMAGENET_SYNSETS_DIGEST

_LISTED = (Column("status") != "unlisted") & (Column("status") != "other_file")
_TRAIN = (Column("split") == "train") & _LISTED
_VAL = (Column("split") == "val") & _LISTED
_DECODED = Column("status") == "ok"
# Scans below the `full` level leave a column empty if they do not read its values.
_WITH_DIGEST = _DECODED & (Column("sha256") != "")
_WITH_HEADER_AND_NOT_KNOWN = _DECODED & (Column("format") != "") & (Column("known_name") == "")
_KNOWN = _LISTED & (Column("known_as_is") != "")


def build_suite(
    class_num: int,
    train_labels: Iterable[int],
    blocking: Iterable[str],
    suite: SuiteName = "imagenet_layout",
    *,
    has_reference: bool = False,
    has_near_duplicates: bool = False,
    has_synsets: bool = True,
) -> ExpectationSuite:
    """Build a suite that validates a table from `expectations.batch.build_batch`.

    Args:
        class_num: number of classes.
        train_labels: labels of the training images. val/ must contain the same labels.
        blocking: names of the expectations with severity critical. All others have severity warning.
        suite: name of the suite.
        has_reference: whether to include `images_are_as_they_were`, which needs an earlier manifest.
        has_near_duplicates: whether to include the expectations about near-duplicates, which require a search.
        has_synsets: whether the class folders have the names of synsets. Without them, the suite includes
            `names_end_in_jpeg`, the name of ImageNet's files, only if it is blocking.
    """
    blocking = set(blocking)
    expectations = _expect_imagenet_layout(class_num, sorted(set(train_labels)))
    if suite == "ilsvrc2012":
        expectations |= _expect_ilsvrc2012()
    if not has_reference:
        del expectations["images_are_as_they_were"]
    if not has_near_duplicates:
        del expectations[OTHER_SPLIT], expectations[OTHER_LABEL]
    if not has_synsets and "names_end_in_jpeg" not in blocking:
        del expectations["names_end_in_jpeg"]
    for name, expectation in expectations.items():
        claim = SUITES[suite][name]
        expectation.description = f"{claim.description} {claim.reason}"
        expectation.severity = "critical" if name in blocking else "warning"
        expectation.meta = {"name": name}
    return gx.ExpectationSuite(name=suite, expectations=list(expectations.values()))


def _expect_imagenet_layout(class_num: int, train_labels: list[int]) -> dict[str, Expectation]:
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
        "copies_have_one_label": gxe.ExpectColumnValuesToBeInSet(
            column="has_other_label", value_set=[False], row_condition=_WITH_DIGEST
        ),
        "splits_share_no_image": ExpectContentToBeInOneSplit(row_condition=_LISTED),
        **{name: _expect_unmarked(name) for name in (OTHER_SPLIT, OTHER_LABEL, *ODD_EXPECTATIONS)},
        "every_class_has_train_images": gxe.ExpectColumnDistinctValuesToContainSet(
            column="label", value_set=list(range(class_num)), row_condition=_TRAIN
        ),
        "val_has_the_classes_of_train": gxe.ExpectColumnDistinctValuesToEqualSet(
            column="label", value_set=train_labels, row_condition=_VAL
        ),
        "no_unlisted_images": gxe.ExpectColumnValuesToNotBeInSet(column="status", value_set=["unlisted"]),
        "no_other_files": gxe.ExpectColumnValuesToNotBeInSet(column="status", value_set=["other_file"]),
        "images_are_unique": gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["split", "sha256"], row_condition=_WITH_DIGEST
        ),
        "images_are_as_they_were": gxe.ExpectColumnPairValuesToBeEqual(
            column_A="sha256",
            column_B="sha256_before",
            ignore_row_if="either_value_is_missing",
            row_condition=_WITH_DIGEST,
        ),
        "nothing_stands_behind_images": gxe.ExpectColumnValuesToBeInSet(
            column="trailing_bytes", value_set=[0], row_condition=_DECODED
        ),
        "images_are_used_in_full": gxe.ExpectColumnValuesToBeInSet(
            column="ignored", value_set=[EMPTY], row_condition=_DECODED
        ),
        "images_are_jpeg": gxe.ExpectColumnValuesToBeInSet(
            column="format", value_set=["JPEG"], row_condition=_WITH_HEADER_AND_NOT_KNOWN
        ),
        "images_are_rgb_or_grey": gxe.ExpectColumnValuesToBeInSet(
            column="mode", value_set=["RGB", "L"], row_condition=_WITH_HEADER_AND_NOT_KNOWN
        ),
        "images_are_upright": gxe.ExpectColumnValuesToBeInSet(
            column="exif_orientation", value_set=[1], row_condition=_DECODED
        ),
        "names_end_in_jpeg": gxe.ExpectColumnValuesToBeInSet(
            column="suffix", value_set=[".JPEG"], row_condition=_LISTED
        ),
    }


def _expect_unmarked(name: str) -> Expectation:
    """Expect False in the column of the same name, which marks the near-duplicates or the odd images."""
    return gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[False], row_condition=_DECODED)


def _expect_ilsvrc2012() -> dict[str, Expectation]:
    def images(count: int, condition: Column) -> Expectation:
        return gxe.ExpectTableRowCountToBeBetween(min_value=count, max_value=count, row_condition=condition)

    return {
        "train_has_1281167_images": images(claims.TRAIN_IMAGES, _TRAIN),
        "val_has_50000_images": images(claims.VAL_IMAGES, _VAL),
        "train_has_1000_classes": gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="label", min_value=claims.CLASSES, max_value=claims.CLASSES, row_condition=_TRAIN
        ),
        "synsets_are_those_of_ilsvrc2012": gxe.ExpectColumnValuesToBeInSet(
            column="synsets_digest", value_set=[IMAGENET_SYNSETS_DIGEST], row_condition=_TRAIN
        ),
        "labels_follow_sorted_synsets": gxe.ExpectColumnPairValuesToBeEqual(
            column_A="label", column_B="sorted_label", ignore_row_if="either_value_is_missing", row_condition=_TRAIN
        ),
        "train_classes_have_732_to_1300_images": gxe.ExpectColumnValuesToBeBetween(
            column="images_in_class",
            min_value=claims.MIN_TRAIN_IMAGES_PER_CLASS,
            max_value=claims.MAX_TRAIN_IMAGES_PER_CLASS,
            row_condition=_TRAIN,
        ),
        "val_classes_have_50_images": gxe.ExpectColumnValuesToBeBetween(
            column="images_in_class",
            min_value=claims.VAL_IMAGES_PER_CLASS,
            max_value=claims.VAL_IMAGES_PER_CLASS,
            row_condition=_VAL,
        ),
        "known_png_is_there": gxe.ExpectColumnDistinctValuesToContainSet(
            column="known_as_is", value_set=sorted(KNOWN_PNG), row_condition=_KNOWN
        ),
        "known_cmyk_are_there": gxe.ExpectColumnDistinctValuesToContainSet(
            column="known_as_is", value_set=sorted(KNOWN_CMYK), row_condition=_KNOWN
        ),
    }
