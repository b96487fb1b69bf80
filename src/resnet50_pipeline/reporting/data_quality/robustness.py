"""Summarizes the errors on corrupted images as a table, metrics, and data for the report's chart."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.imaging.corruptions.names import CATEGORIES, CATEGORY_OF, NOTES, SEVERITIES
from resnet50_pipeline.reporting.prediction_table import PredictionTable

ROBUSTNESS_COLUMNS = (
    *("corruption", "category", "severity", "images", "errors", "top1_error", "clean_top1_error", "note"),
)


def tabulate_robustness(counts: pd.DataFrame, clean: PredictionTable) -> pd.DataFrame:
    """Return one row per corruption and severity, with the columns of `ROBUSTNESS_COLUMNS`.

    Errors are fractions in 0..1. `clean_top1_error` is the error on the original images, which is the same in all rows.
    `note` describes how a corruption differs from the benchmark.

    Args:
        counts: columns `corruption`, `severity`, `images` and `errors`; no rows if nothing was measured.
        clean: predictions for the original images.
    """
    table = counts.assign(
        category=counts["corruption"].map(CATEGORY_OF),
        top1_error=counts["errors"] / counts["images"],
        clean_top1_error=1 - float(clean.is_top1.mean()),
        note=counts["corruption"].map(NOTES).fillna(""),
    )
    return table[list(ROBUSTNESS_COLUMNS)]


def robustness_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of a table, or {} if it is empty. All are fractions in 0..1.

    - `mean_corruption_error`: mean top-1 error over all corruptions and severities. Unlike in ImageNet-C, the errors
      are not divided by AlexNet's errors, which exist only for ImageNet.
    - `relative_mean_corruption_error`: the same, minus the error on the original images.
    - `noise_error`, `blur_error`, …: mean error over the corruptions in a category.
    """
    if table.empty:
        return {}
    errors = _mean_by_corruption(table)
    mean = fmean(errors.values())
    by_category = {
        category: [errors[name] for name in names if name in errors] for category, names in CATEGORIES.items()
    }
    return {
        "mean_corruption_error": mean,
        "relative_mean_corruption_error": mean - _clean_error(table),
        **{f"{category}_error": fmean(values) for category, values in by_category.items() if values},
    }


def describe_robustness(table: pd.DataFrame, metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the data for the report's section on corrupted images, or None if nothing was measured.

    Keys: the metrics from `robustness_metrics`; `clean`; `categories` and `corruptions`, the rows of the tables;
    `notes`; and `panel`, the data of the chart, whose lines start at the error on the original images.

    Raises:
        EvaluationTableError: if the table and `metrics` were computed from different predictions.
    """
    if table.empty:
        return None
    clean = _clean_error(table)
    if abs(clean - (1 - metrics["top1"])) > 1e-9 or int(table["images"].iloc[0]) != int(metrics["images"]):
        raise EvaluationTableError(
            ["robustness: computed from other predictions → run the evaluation pipeline from the start"]
        )
    means = _mean_by_corruption(table)
    series = {
        category: _by_severity(table[table["category"] == category])
        for category in CATEGORIES
        if (table["category"] == category).any()
    }
    return {
        **robustness_metrics(table),
        "clean": clean,
        "categories": [{"name": name, "mean": fmean(errors)} for name, errors in series.items()],
        "corruptions": [
            {
                "name": name.replace("_", " "),
                "category": CATEGORY_OF[name],
                "errors": _by_severity(table[table["corruption"] == name]),
                "mean": mean,
                "has_note": name in NOTES,
            }
            for name, mean in means.items()
        ],
        "notes": [f"{name.replace('_', ' ')}: {note}" for name, note in NOTES.items() if name in means],
        "panel": {
            "title": "Top-1 error",
            "column": "top1",
            "series": [
                {
                    "name": name,
                    "tone": list(CATEGORIES).index(name),
                    "severity": [0, *SEVERITIES],
                    "value": [round(error, 6) for error in (clean, *errors)],
                }
                for name, errors in series.items()
            ],
        },
    }


def _mean_by_corruption(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean error of each corruption over the severities, in the order of the table."""
    return {str(name): float(rows["top1_error"].mean()) for name, rows in table.groupby("corruption", sort=False)}


def _by_severity(rows: pd.DataFrame) -> list[float]:
    """Return the mean error of the rows at each severity."""
    return [float(rows.loc[rows["severity"] == severity, "top1_error"].mean()) for severity in SEVERITIES]


def _clean_error(table: pd.DataFrame) -> float:
    return float(table["clean_top1_error"].iloc[0])
