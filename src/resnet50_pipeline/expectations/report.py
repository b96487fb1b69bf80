"""The validation report: what the data set is and whether it may be trained on, as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import ValidationFailedError
from resnet50_pipeline.expectations.findings import Finding
from resnet50_pipeline.imagenet.digest import compute_data_digest
from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.list_files import SPLITS
from resnet50_pipeline.imagenet.manifest import select_listed

PROBLEMS_IN_REPORT = 10


def build_report(manifest: pd.DataFrame, findings: Sequence[Finding], notices: Sequence[str] = ()) -> dict[str, Any]:
    """Return the report, ready for JSON.

    Keys: `is_valid`, `data_digest`, `statistics`, `notices` (what was put right while reading the lists, and how many
    images are known oddities of ILSVRC2012) and `expectations`, each with at most `PROBLEMS_IN_REPORT` of its
    problems, and their number.

    Args:
        manifest: as `imagenet.scan.scan_dataset` gives it.
        findings: of all expectations.
        notices: a sentence each.
    """
    return {
        "is_valid": all(finding.success for finding in findings if finding.is_blocking),
        "data_digest": compute_data_digest(manifest),
        "statistics": compute_statistics(manifest),
        "notices": [*notices, *_describe_known_images(manifest)],
        "expectations": [
            {
                "name": finding.name,
                "description": finding.description,
                "is_blocking": finding.is_blocking,
                "success": finding.success,
                "observed": finding.observed,
                "problems": list(finding.problems[:PROBLEMS_IN_REPORT]),
                "problem_count": len(finding.problems),
            }
            for finding in findings
        ],
    }


def compute_statistics(manifest: pd.DataFrame) -> dict[str, Any]:
    """Return counts of images, classes and bytes by split, and of formats, pixel modes and suffixes of names."""
    listed = select_listed(manifest)
    statistics: dict[str, Any] = {}
    for split in SPLITS:
        images = select_listed(manifest, split)
        per_class = images["label"].value_counts()
        statistics[split] = {
            "images": len(images),
            "classes": len(per_class),
            "min_images_per_class": int(per_class.min()) if len(per_class) else 0,
            "max_images_per_class": int(per_class.max()) if len(per_class) else 0,
            "bytes": int(images["bytes"].sum()),
        }
    statistics["unlisted_images"] = len(manifest) - len(listed)
    decoded = listed[listed["status"] == "ok"]
    statistics["formats"] = _count(decoded["format"])
    statistics["modes"] = _count(decoded["mode"])
    statistics["suffixes"] = _count(manifest["path"].str.extract(r"(\.[^./]*)$", expand=False).fillna(""))
    return statistics


def require_valid(report: Mapping[str, Any]) -> None:
    """Make sure that every blocking expectation of a report holds.

    Raises:
        ValidationFailedError: with the problems that the report names.
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


def _describe_known_images(manifest: pd.DataFrame) -> list[str]:
    listed = select_listed(manifest)
    names = listed["path"].str.rpartition("/")[2]
    png_count = int((names.isin(KNOWN_PNG) & (listed["format"] == "PNG")).sum())
    cmyk_count = int((names.isin(KNOWN_CMYK) & (listed["mode"] == "CMYK")).sum())
    if not png_count + cmyk_count:
        return []
    return [
        f"{png_count} PNG and {cmyk_count} CMYK images are those that ILSVRC2012 is known to have under .JPEG names; "
        "they train as the others do"
    ]


def _count(values: pd.Series[Any]) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}
