"""The validation report: what the data set is and whether it may be trained on, as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from posixpath import basename
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import ValidationFailedError
from resnet50_pipeline.expectations.claims import SuiteName
from resnet50_pipeline.expectations.distributions import Distributions, as_json, compute_distributions
from resnet50_pipeline.expectations.findings import Finding
from resnet50_pipeline.imagenet.digest import compute_data_digest
from resnet50_pipeline.imagenet.inspection import SCAN_LEVELS
from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.list_files import SPLITS
from resnet50_pipeline.imagenet.manifest import select_listed

PROBLEMS_IN_REPORT = 10


def build_report(
    manifest: pd.DataFrame,
    findings: Sequence[Finding],
    notices: Sequence[str] = (),
    suite_name: SuiteName = "imagenet_layout",
    distributions: Distributions | None = None,
) -> dict[str, Any]:
    """Return the report, ready for JSON.

    Keys: `suite`, `is_valid`, `data_digest`, `statistics`, `distributions` (quantiles of sizes, images by class),
    `notices` (what was put right while reading the lists, how many images are known oddities of ILSVRC2012, and what
    was not checked, for the scan did not read that far) and `expectations`, each with its number of problems and at
    most `PROBLEMS_IN_REPORT` of them: as lines, and as `findings` with `file`, `line`, `path`, `text` and `fix`. All of
    them stand in `findings.jsonl` of the Data Docs.

    Args:
        manifest: as `imagenet.scan.scan_dataset` gives it.
        findings: of all expectations.
        notices: a sentence each.
        suite_name: whose expectations they are.
        distributions: of the manifest, where the caller has them already.
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
                "problems": [str(problem) for problem in finding.problems[:PROBLEMS_IN_REPORT]],
                "findings": [problem._asdict() for problem in finding.problems[:PROBLEMS_IN_REPORT]],
                "problem_count": len(finding.problems),
            }
            for finding in findings
        ],
    }


def compute_statistics(manifest: pd.DataFrame) -> dict[str, Any]:
    """Return counts of images, classes and bytes by split; of scan levels, formats, pixel modes, suffixes of names."""
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
    decoded = listed[(listed["status"] == "ok") & (listed["format"] != "")]
    statistics["scan_levels"] = _count(listed["scan_level"])
    statistics["formats"] = _count(decoded["format"])
    statistics["modes"] = _count(decoded["mode"])
    statistics["suffixes"] = _count_suffixes(manifest["path"].tolist())
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
    # Only these few rows are looked at as text: of 1.33 million paths that takes seconds.
    png_names = listed.loc[listed["format"] == "PNG", "path"]
    cmyk_names = listed.loc[listed["mode"] == "CMYK", "path"]
    png_count = sum(path.rpartition("/")[2] in KNOWN_PNG for path in png_names)
    cmyk_count = sum(path.rpartition("/")[2] in KNOWN_CMYK for path in cmyk_names)
    if not png_count + cmyk_count:
        return []
    return [
        f"{png_count} PNG and {cmyk_count} CMYK images are those that ILSVRC2012 is known to have under .JPEG names; "
        "they train as the others do"
    ]


def _describe_levels(manifest: pd.DataFrame, findings: Sequence[Finding]) -> list[str]:
    """Return what is to be known of a scan that did not read every image whole."""
    listed = select_listed(manifest)
    counts = _count(listed.loc[listed["status"] == "ok", "scan_level"])
    notices = []
    if len(counts) > 1:
        levels = ", ".join(f"{level} {counts[level]:,}" for level in SCAN_LEVELS if level in counts)
        notices.append(
            f"not all images were looked at alike ({levels}): what a former scan found at a higher level still holds, "
            "for neither size nor time of the file have changed"
        )
    unchecked = [finding for finding in findings if not finding.is_checked]
    if unchecked:
        names = ", ".join(f"{finding.name}{' (blocking)' if finding.is_blocking else ''}" for finding in unchecked)
        notices.append(
            f"{len(unchecked)} expectations were not checked, for the scan did not read that far: {names} → set "
            "data_validation.scan.level: full"
        )
    return notices


def _count(values: pd.Series[Any]) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items() if count}


def _count_suffixes(paths: Sequence[str]) -> dict[str, int]:
    counts: Counter[str] = Counter(name[name.rfind(".") :] if "." in name else "" for name in map(basename, paths))
    return dict(sorted(counts.items()))
