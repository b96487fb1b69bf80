"""Nodes of `data_validation`: what is in the dataset folder, and whether it may be trained on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import ParameterError, ValidationFailedError
from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.imagenet.layout import describe_lists, find_dataset, read_lists
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters

logger = logging.getLogger(__name__)


def scan_dataset(
    dataset_root: Path, dataset: DatasetParameters, data_validation: DataValidationParameters
) -> tuple[pd.DataFrame, list[str]]:
    """Return the manifest, and what was put right while the lists were read."""
    from resnet50_pipeline.imagenet import scan
    from resnet50_pipeline.imagenet.archived_images import index_archives
    from resnet50_pipeline.imagenet.inspection_pool import choose_executor
    from resnet50_pipeline.imagenet.published_archives import require_published

    layout = find_dataset(dataset_root, dataset)
    if data_validation.verify_archives:
        require_published(layout.archives)
    archived = index_archives(layout.archives, data_validation.workers)
    lists = read_lists(layout, dataset.class_num, dataset.label_base, repair=dataset.repair, archived=archived)
    entries = {split: prefixed.entries for split, prefixed in lists.items()}
    options = data_validation.scan
    executor = choose_executor(options.scheduler, data_validation.workers, options.dask_address)
    manifest = scan.scan_dataset(
        dataset_root,
        entries,
        data_validation.workers,
        level=options.level,
        # A bit that flips on the disk changes neither size nor time of the file.
        cache_dir=None if data_validation.reference_manifest else options.cache_dir,
        executor=executor,
        archived=archived,
    )
    return manifest, describe_lists(lists)


def validate_manifest(
    manifest: pd.DataFrame,
    list_notices: list[str],
    dataset: DatasetParameters,
    data_validation: DataValidationParameters,
) -> tuple[dict[str, Any], Path]:
    """Return the validation report and a new folder of Data Docs, for the catalog to move into place."""
    from resnet50_pipeline.expectations.distributions import compute_distributions
    from resnet50_pipeline.expectations.docs import write_data_docs
    from resnet50_pipeline.expectations.report import build_report
    from resnet50_pipeline.expectations.validation import validate_manifest

    validation = validate_manifest(
        manifest,
        dataset.class_num,
        data_validation.blocking,
        {"train": dataset.train_list, "val": dataset.val_list},
        suite_name=data_validation.suite,
        reference=_read_reference(data_validation.reference_manifest),
    )
    distributions = compute_distributions(manifest)
    report = build_report(manifest, validation.findings, list_notices, data_validation.suite, distributions)
    with staging_directory() as staged:
        write_data_docs(staged, validation, report, distributions)
    return report, staged


def stop_on_blocking_findings(validation_report: dict[str, Any], data_docs: Path) -> None:
    """Raise if a blocking expectation does not hold; the report and the Data Docs are saved by then.

    Raises:
        ValidationFailedError: with every problem of the blocking expectations.
    """
    from resnet50_pipeline.expectations.findings import FINDINGS_FILE, read_blocking_problems

    unchecked = [
        one["name"] for one in validation_report["expectations"] if one["is_blocking"] and not one["is_checked"]
    ]
    if unchecked:
        logger.warning(
            "not checked, for data_validation.scan.level has the scan read too little of the images: %s",
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
            f"data_validation.reference_manifest: {path} is not there → name an earlier manifest.parquet"
        )
    return pd.read_parquet(path, columns=["path", "sha256"])
