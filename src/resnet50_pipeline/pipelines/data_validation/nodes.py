"""Nodes of the `data_validation` pipeline: scan the dataset, validate it, and stop the run if it is invalid."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet50_pipeline.exceptions import ListFileError, ParameterError, ValidationFailedError
from resnet50_pipeline.files import digest_file, staging_directory
from resnet50_pipeline.imagenet.layout import ListDescriptions, describe_lists, find_dataset, read_lists
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters

if TYPE_CHECKING:
    from resnet50_pipeline.expectations.findings import Finding

logger = logging.getLogger(__name__)


def scan_dataset(
    dataset_root: Path, dataset: DatasetParameters, data_validation: DataValidationParameters
) -> tuple[pd.DataFrame, ListDescriptions]:
    """Return the manifest, along with a description of the lists."""
    from resnet50_pipeline.imagenet.archives.images import index_archives
    from resnet50_pipeline.imagenet.archives.published_md5 import require_published_md5
    from resnet50_pipeline.imagenet.lists.patches import dropped_paths, read_patches, relabeled_paths
    from resnet50_pipeline.imagenet.scan import scan
    from resnet50_pipeline.imagenet.scan.executors import choose_executor

    layout = find_dataset(dataset_root, dataset)
    if data_validation.verify_archives:
        require_published_md5(layout.archives)
    archived = index_archives(layout.archives, data_validation.workers)
    try:
        lists = read_lists(layout, dataset.class_num, dataset.label_base, repair=dataset.repair, archived=archived)
    except ListFileError:
        logger.warning("the images were not checked, because the lists must be corrected first")
        raise
    entries = {split: prefixed.entries for split, prefixed in lists.items()}
    patches = read_patches(layout.patches)
    options = data_validation.scan
    executor = choose_executor(options.scheduler, data_validation.workers, options.dask_address)
    manifest = scan.scan_dataset(
        dataset_root,
        entries,
        data_validation.workers,
        level=options.level,
        tiff=dataset.tiff,
        # The cache compares size and modification time, which a flipped bit does not change.
        cache_dir=None if data_validation.reference_manifest else options.cache_dir,
        executor=executor,
        archived=archived,
        class_keys=None if layout.classes is None else [one.key for one in layout.classes],
        dropped=dropped_paths(patches),
        relabeled=relabeled_paths(patches),
    )
    return manifest, describe_lists(layout, lists, archived, patches)


def validate_manifest(
    *,
    dataset_root: Path,
    manifest: pd.DataFrame,
    manifest_file: Path,
    list_descriptions: ListDescriptions,
    findings_review: ReviewCommands,
    dataset: DatasetParameters,
    data_validation: DataValidationParameters,
) -> tuple[dict[str, Any], Path]:
    """Return the validation report and a staged Data Docs folder, which the catalog moves to its final path.

    The report contains the digest of the manifest file, so that later runs reject an old report if this run is killed
    after writing a new manifest.
    """
    from resnet50_pipeline.expectations.distributions import compute_distributions
    from resnet50_pipeline.expectations.docs import write_data_docs
    from resnet50_pipeline.expectations.near_duplicates import (
        NEAR_DUPLICATES_FILE,
        find_near_duplicates,
        write_near_duplicates,
    )
    from resnet50_pipeline.expectations.report import build_report
    from resnet50_pipeline.expectations.thumbnails import make_gallery
    from resnet50_pipeline.expectations.validation import validate_manifest
    from resnet50_pipeline.imagenet.archives.images import read_image
    from resnet50_pipeline.imagenet.scan.manifest import count_listed_classes
    from resnet50_pipeline.imagenet.synsets import find_classes
    from resnet50_pipeline.imagenet.worker_pool import count_workers

    read = functools.partial(read_image, dataset_root, list_descriptions.archived)
    near = find_near_duplicates(manifest, read, count_workers(data_validation.workers), tiff=dataset.tiff)
    # Classes without images still count. An expectation reports such classes.
    class_num = dataset.class_num or max(count_listed_classes(manifest), list_descriptions.class_num)
    validation = validate_manifest(
        manifest,
        class_num,
        data_validation.blocking,
        list_descriptions.names,
        class_folders=list_descriptions.class_folders,
        suite_name=data_validation.suite,
        reference=_read_reference(data_validation.reference_manifest),
        near=near,
    )
    layout = find_dataset(dataset_root, dataset)
    classes = find_classes(manifest, class_num, dataset_root, layout.meta, layout.classes or ())
    distributions = compute_distributions(manifest, {one.id: one.name for one in classes})
    notices = [*list_descriptions.notices, *filter(None, [near.describe()])]
    report = build_report(manifest, validation.findings, notices, data_validation.suite, distributions) | {
        "manifest_digest": digest_file(manifest_file),
        "patches": [{"id": patch.id} | patch.content.model_dump() for patch in list_descriptions.patches],
    }
    gallery = make_gallery(manifest, distributions.class_counts, validation.findings, read, tiff=dataset.tiff)
    review = _select_review(findings_review, validation.findings, manifest)
    with staging_directory() as staged:
        write_data_docs(staged, validation, report, distributions, gallery, review=review)
        write_near_duplicates(staged / NEAR_DUPLICATES_FILE, near, manifest)
    return report, staged


def _select_review(
    commands: ReviewCommands, findings: Iterable[Finding], manifest: pd.DataFrame
) -> ReviewCommands | None:
    """Return the commands, or None if no finding is about an image that a patch can change."""
    from resnet50_pipeline.imagenet.lists.patches import PATCHED_SPLITS
    from resnet50_pipeline.imagenet.scan.manifest import select_listed

    listed = select_listed(manifest)
    paths = {problem.path for finding in findings for problem in finding.problems}
    return commands if (listed["split"].isin(PATCHED_SPLITS) & listed["path"].isin(paths)).any() else None


def stop_on_blocking_findings(validation_report: dict[str, Any], data_docs: Path) -> None:
    """Raise an error if a blocking expectation failed.

    This is a separate node, so that the report and Data Docs are saved first.

    Raises:
        ValidationFailedError: if a blocking expectation failed. The error contains all problems that blocking
            expectations found.
    """
    from resnet50_pipeline.expectations.findings import FINDINGS_FILE, read_blocking_problems

    unchecked = [
        one["name"] for one in validation_report["expectations"] if one["is_blocking"] and not one["is_checked"]
    ]
    if unchecked:
        logger.warning(
            "blocking expectations not checked at this data_validation.scan.level: %s → set the level to full",
            ", ".join(unchecked),
        )
    if not validation_report["is_valid"]:
        findings = data_docs / FINDINGS_FILE
        raise ValidationFailedError(read_blocking_problems(findings), full_list=findings)


def _read_reference(path: Path | None) -> pd.DataFrame | None:
    if path is None:
        return None
    if not path.is_file():
        raise ParameterError(
            f"data_validation.reference_manifest: {path} does not exist → set the parameter to the path of an earlier "
            "manifest.parquet"
        )
    return pd.read_parquet(path, columns=["path", "sha256"])
