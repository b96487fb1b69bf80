"""Builds the validation report: dataset statistics and the result of each expectation, as one JSON object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import basename
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import DatasetError, ValidationFailedError
from resnet50_pipeline.expectations.claims import SuiteName
from resnet50_pipeline.expectations.distributions import Distributions, as_json, compute_distributions
from resnet50_pipeline.expectations.findings import PROBLEMS_SHOWN, Finding
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.imagenet.lists.files import SPLITS
from resnet50_pipeline.imagenet.scan.digest import compute_data_digest
from resnet50_pipeline.imagenet.scan.inspection import SCAN_LEVELS
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.scan.manifest import select_listed
from resnet50_pipeline.text import pluralize


def build_report(
    manifest: pd.DataFrame,
    findings: Sequence[Finding],
    notices: Sequence[str] = (),
    suite_name: SuiteName = "imagenet_layout",
    distributions: Distributions | None = None,
) -> dict[str, Any]:
    """Return the report as a dictionary that can be written as JSON.

    The keys are `suite`, `is_valid`, `data_digest`, `statistics`, `distributions` (size quantiles and images per
    class), `notices` (repaired lists, known PNG and CMYK images in ILSVRC2012, skipped checks) and `expectations`. Each
    expectation contains the number of problems and the first `PROBLEMS_SHOWN` problems. `problems` contains these
    problems as lines of text, and `findings` contains them as objects with `file`, `line`, `path`, `text` and `fix`.
    The file `findings.jsonl` in the Data Docs contains all problems. The node adds `manifest_digest`, which
    `require_report_of` checks.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`.
        findings: findings of all expectations.
        notices: sentences to include.
        suite_name: name of the suite.
        distributions: distributions of the manifest. If None, they are computed from `manifest`.
    """
    return {
        "suite": suite_name,
        "is_valid": all(finding.success for finding in findings if finding.is_blocking),
        "data_digest": compute_data_digest(manifest),
        "statistics": compute_statistics(manifest),
        "distributions": as_json(distributions or compute_distributions(manifest)),
        "notices": [*notices, *_describe_known_images(manifest), *_describe_levels(manifest, findings)],
        "expectations": [
            {
                "name": finding.name,
                "description": finding.description,
                "is_blocking": finding.is_blocking,
                "is_checked": finding.is_checked,
                "unread_images": finding.unread_images,
                "success": finding.success,
                "observed": finding.observed,
                "problems": [str(problem) for problem in finding.problems[:PROBLEMS_SHOWN]],
                "findings": [problem._asdict() for problem in finding.problems[:PROBLEMS_SHOWN]],
                "problem_count": len(finding.problems),
            }
            for finding in findings
        ],
    }


def compute_statistics(manifest: pd.DataFrame) -> dict[str, Any]:
    """Count images, classes and bytes per split, and images by scan level, format, color mode and extension."""
    listed = select_listed(manifest)
    statistics: dict[str, Any] = {}
    splits = [*SPLITS, "test"] if (listed["split"] == "test").any() else SPLITS
    for split in splits:
        images = listed[listed["split"] == split]
        per_class = images["label"].value_counts()
        statistics[split] = {
            "images": len(images),
            "classes": len(per_class),
            "min_images_per_class": int(per_class.min()) if len(per_class) else 0,
            "max_images_per_class": int(per_class.max()) if len(per_class) else 0,
            "bytes": int(images["bytes"].sum()),
        }
    statistics["unlisted_images"] = int((manifest["status"] == "unlisted").sum())
    statistics["other_files"] = int((manifest["status"] == "other_file").sum())
    decoded = listed[(listed["status"] == "ok") & (listed["format"] != "")]
    statistics["scan_levels"] = _count(listed["scan_level"])
    statistics["formats"] = _count(decoded["format"])
    statistics["modes"] = _count(decoded["mode"])
    statistics["suffixes"] = _count_suffixes(manifest.loc[manifest["status"] != "other_file", "path"].tolist())
    return statistics


def require_valid(report: Mapping[str, Any]) -> None:
    """Raise an error if a blocking expectation in the report failed.

    Raises:
        ValidationFailedError: if a blocking expectation failed. The error contains the problems from the report.
    """
    if not report["is_valid"]:
        raise ValidationFailedError(
            [
                f"{problem} [{expectation['name']}]"
                for expectation in report["expectations"]
                if expectation["is_blocking"]
                for problem in expectation["problems"]
            ]
        )


def require_report_of(manifest_file: Path, report_file: Path) -> None:
    """Raise an error if the report was not written for the manifest.

    Raises:
        DatasetError: if the digest in the report does not match the manifest file.
    """
    report = json.loads(report_file.read_text(encoding="utf-8"))
    if report.get("manifest_digest") != digest_file(manifest_file):
        raise DatasetError(
            f"{report_file} was not written for {manifest_file}: data_validation was probably interrupted after "
            "writing only one of the two files, or one of the files was replaced → run data_validation again"
        )


def _describe_known_images(manifest: pd.DataFrame) -> list[str]:
    listed = select_listed(manifest)
    # Filter by format and mode first, because splitting all 1.33 million paths would take seconds.
    png_names = listed.loc[listed["format"] == "PNG", "path"]
    cmyk_names = listed.loc[listed["mode"] == "CMYK", "path"]
    png_count = sum(path.rpartition("/")[2] in KNOWN_PNG for path in png_names)
    cmyk_count = sum(path.rpartition("/")[2] in KNOWN_CMYK for path in cmyk_names)
    if not png_count + cmyk_count:
        return []
    return [
        f"{png_count} PNG and {cmyk_count} CMYK images with .JPEG names are known ILSVRC2012 images; these images can "
        "be used for training"
    ]


def _describe_levels(manifest: pd.DataFrame, findings: Sequence[Finding]) -> list[str]:
    """Return notices about images that the scan did not fully read."""
    listed = select_listed(manifest)
    counts = _count(listed.loc[listed["status"] == "ok", "scan_level"])
    notices = []
    if len(counts) > 1:
        levels = ", ".join(f"{level} {counts[level]:,}" for level in SCAN_LEVELS if level in counts)
        notices.append(
            f"images were scanned at different levels ({levels}), because results of an earlier, deeper scan are "
            "reused for files whose size and modification time are unchanged"
        )
    unchecked = [finding for finding in findings if not finding.is_checked]
    if unchecked:
        names = ", ".join(f"{finding.name}{' (blocking)' if finding.is_blocking else ''}" for finding in unchecked)
        notices.append(
            f"{pluralize(len(unchecked), 'expectation')} skipped because of the scan level: {names} → set "
            "data_validation.scan.level: full"
        )
    return notices


def _count(values: pd.Series[Any]) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items() if count}


def _count_suffixes(paths: Sequence[str]) -> dict[str, int]:
    counts: Counter[str] = Counter(name[name.rfind(".") :] if "." in name else "" for name in map(basename, paths))
    return dict(sorted(counts.items()))
