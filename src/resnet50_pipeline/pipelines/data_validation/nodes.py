"""Nodes of `data_validation`: what is in the dataset folder, and whether it may be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import ValidationFailedError
from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.imagenet.layout import describe_lists, find_layout, read_lists
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters


def scan_dataset(
    dataset_root: Path, dataset: DatasetParameters, data_validation: DataValidationParameters
) -> tuple[pd.DataFrame, list[str]]:
    """Return the manifest, and what was put right while the lists were read."""
    from resnet50_pipeline.imagenet import scan

    layout = find_layout(dataset_root, dataset.train_list, dataset.val_list)
    lists = read_lists(layout, dataset.class_num, dataset.label_base)
    entries = {split: prefixed.entries for split, prefixed in lists.items()}
    return scan.scan_dataset(dataset_root, entries, data_validation.workers), describe_lists(lists)


def validate_manifest(
    manifest: pd.DataFrame,
    list_notices: list[str],
    dataset: DatasetParameters,
    data_validation: DataValidationParameters,
) -> tuple[dict[str, Any], Path]:
    """Return the validation report and a new folder of Data Docs, for the catalog to move into place."""
    from resnet50_pipeline.expectations.docs import write_data_docs
    from resnet50_pipeline.expectations.report import build_report
    from resnet50_pipeline.expectations.validation import validate_manifest

    validation = validate_manifest(
        manifest,
        dataset.class_num,
        data_validation.blocking,
        list_names={"train": dataset.train_list, "val": dataset.val_list},
    )
    report = build_report(manifest, validation.findings, list_notices)
    with staging_directory() as staged:
        write_data_docs(staged, validation, report)
    return report, staged


def stop_on_blocking_findings(validation_report: dict[str, Any], data_docs: Path) -> None:
    """Raise if a blocking expectation does not hold; the report and the Data Docs are saved by then.

    Raises:
        ValidationFailedError: with every problem of the blocking expectations.
    """
    from resnet50_pipeline.expectations.findings import FINDINGS_FILE, read_blocking_problems

    if not validation_report["is_valid"]:
        findings = data_docs / FINDINGS_FILE
        raise ValidationFailedError(read_blocking_problems(findings), full_list=findings)
