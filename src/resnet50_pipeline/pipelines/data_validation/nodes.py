"""Nodes of the `data_validation` pipeline: scan the dataset, validate it, and stop the run if it is invalid."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import ListFileError, ParameterError, ValidationFailedError
from resnet50_pipeline.files import digest_file, staging_directory
from resnet50_pipeline.imagenet.layout import ListDescriptions, describe_lists, find_dataset, read_lists
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters

logger = logging.getLogger(__name__)


def scan_dataset(
    dataset_root: Path, dataset: DatasetParameters, data_validation: DataValidationParameters
) -> tuple[pd.DataFrame, ListDescriptions]:
    """Return the manifest, along with a description of the lists."""
    from resnet50_pipeline.imagenet.archives.images import index_archives
    from resnet50_pipeline.imagenet.archives.published_md5 import require_published_md5
    from resnet50_pipeline.imagenet.scan import scan
    from resnet50_pipeline.imagenet.scan.executors import choose_executor

    layout = find_dataset(dataset_root, dataset)
    if data_validation.verify_archives:
        require_published_md5(layout.archives)
    archived = index_archives(layout.archives, data_validation.workers)
    try:
        lists = read_lists(layout, dataset.class_num, dataset.label_base, repair=dataset.repair, archived=archived)
    except ListFileError:
        logger.warning("the images have not been checked, because the lists must be corrected first")
        raise
    entries = {split: prefixed.entries for split, prefixed in lists.items()}
    options = data_validation.scan
    executor = choose_executor(options.scheduler, data_validation.workers, options.dask_address)
    manifest = scan.scan_dataset(
        dataset_root,
        entries,
        data_validation.workers,
        level=options.level,
        tiff=dataset.tiff,
        # The cache compares size and modification time, and a flipped bit changes neither.
        cache_dir=None if data_validation.reference_manifest else options.cache_dir,
        executor=executor,
        archived=archived,
        class_keys=None if layout.classes is None else [one.key for one in layout.classes],
    )
    return manifest, describe_lists(layout, lists, archived)


def validate_manifest(
    manifest: pd.DataFrame,
    manifest_file: Path,
    list_descriptions: ListDescriptions,
    dataset: DatasetParameters,
    data_validation: DataValidationParameters,
) -> tuple[dict[str, Any], Path]:
    """Return the validation report and a staged Data Docs folder, which the catalog moves to its final path.

    The report contains the digest of the manifest file. If a run is killed after it has written a new manifest, the
    next run rejects the old report.
    """
    from resnet50_pipeline.expectations.distributions import compute_distributions
    from resnet50_pipeline.expectations.docs import write_data_docs
    from resnet50_pipeline.expectations.report import build_report
    from resnet50_pipeline.expectations.validation import validate_manifest
    from resnet50_pipeline.imagenet.scan.manifest import count_listed_classes

    validation = validate_manifest(
        manifest,
        # A class without images still counts as a class. An expectation reports it.
        dataset.class_num or max(count_listed_classes(manifest), list_descriptions.class_num),
        data_validation.blocking,
        list_descriptions.names,
        class_folders=list_descriptions.class_folders,
        suite_name=data_validation.suite,
        reference=_read_reference(data_validation.reference_manifest),
    )
    distributions = compute_distributions(manifest)
    report = build_report(
        manifest, validation.findings, list_descriptions.notices, data_validation.suite, distributions
    ) | {"manifest_digest": digest_file(manifest_file)}
    with staging_directory() as staged:
        write_data_docs(staged, validation, report, distributions)
    return report, staged


def stop_on_blocking_findings(validation_report: dict[str, Any], data_docs: Path) -> None:
    """Raise an error if a blocking expectation failed.

    This is a separate node so that the report and Data Docs are saved first.

    Raises:
        ValidationFailedError: if a blocking expectation failed. The error contains all problems of the blocking
            expectations.
    """
    from resnet50_pipeline.expectations.findings import FINDINGS_FILE, read_blocking_problems

    unchecked = [
        one["name"] for one in validation_report["expectations"] if one["is_blocking"] and not one["is_checked"]
    ]
    if unchecked:
        logger.warning(
            "blocking expectations were not checked because of data_validation.scan.level: %s → set it to full",
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
            f"data_validation.reference_manifest: {path} does not exist → set the parameter to the path of an "
            "earlier manifest.parquet"
        )
    return pd.read_parquet(path, columns=["path", "sha256"])
