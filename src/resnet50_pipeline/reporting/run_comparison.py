"""Renders a page that compares two evaluation reports: metrics, parameters, curves and images."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.calibration import BINS
from resnet50_pipeline.reporting.curve_data import merge_curves
from resnet50_pipeline.reporting.intervals import interval_of
from resnet50_pipeline.reporting.page_data import PROBABILITY_UNIT, pack, unpack
from resnet50_pipeline.reporting.recipe_difference import compare_parameters
from resnet50_pipeline.reporting.report import make_report_environment, read_script
from resnet50_pipeline.text import pluralize

TEMPLATE = "run_comparison.html.jinja"
_SCRIPTS = ("charts.js", "image_browser.js", "run_comparison.js")
_DATA_MARK = 'id="report-data">'
_RESAMPLES = 1_000
_SEED = 0
_CLASSES_SHOWN = 20
# The metrics on the page, each with its display name and whether a higher value is better.
_METRICS = {
    "top1": ("top-1 accuracy", True),
    "top5": ("top-5 accuracy", True),
    "balanced_accuracy": ("balanced accuracy", True),
    "macro_f1": ("macro F1", True),
    "ece": ("calibration error", False),
}


@dataclass(frozen=True)
class Report:
    """An evaluation report to compare."""

    name: str
    """Display name of the run."""
    data: Mapping[str, Any]
    """Data of the report's page."""


@dataclass(frozen=True)
class MetricDifference:
    """The values of a metric in both runs. All values are fractions."""

    name: str
    first: float
    second: float
    low: float
    """Lower end of the 95% confidence interval of `second - first`, from resampled pairs of predictions."""
    high: float
    is_better: bool | None
    """Whether the second run is better, or None if the interval contains 0."""


@dataclass(frozen=True)
class _Predictions:
    """Predictions of one run for N images, in the order that both runs share."""

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    is_top5: NDArray[np.bool_]


def read_report(path: Path, name: str) -> Report:
    """Read the data of an evaluation report.

    Raises:
        EvaluationTableError: if the file cannot be read or is not an evaluation report of this version.
    """
    try:
        _, mark, rest = path.read_text(encoding="utf-8").partition(_DATA_MARK)
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationTableError([f"{path} cannot be read: {error}"]) from error
    try:
        data = unpack(rest.partition("<")[0]) if mark else {}
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise EvaluationTableError(
            [f"{path} is damaged: {error} → copy the file again, or run the evaluation pipeline again"]
        ) from error
    if "run" not in data:
        raise EvaluationTableError(
            [f"{path} is not an evaluation report of this version → run the evaluation pipeline again"]
        )
    return Report(name, data)


def compare_runs(first: Report, second: Report) -> tuple[str, list[MetricDifference]]:
    """Return the HTML page that compares two runs on their common images, and the differences in their metrics.

    Raises:
        EvaluationTableError: if the runs have no common images, or if a common image has different labels.
    """
    basis = describe_basis(first, second)
    first, second = _select_common(first, second)
    before, after = (_read_predictions(report) for report in (first, second))
    _require_same_labels(first, second, before, after)
    metrics = _compare_metrics(before, after)
    environment = make_report_environment()
    script, digest = read_script(_SCRIPTS)
    right, was_right = after.labels == after.predicted, before.labels == before.predicted
    gained, lost = int((right & ~was_right).sum()), int((was_right & ~right).sum())
    page = environment.get_template(TEMPLATE).render(
        first=first,
        second=second,
        basis=basis,
        metrics=metrics,
        parameters=compare_parameters(*(one.data["run"]["parameters"] for one in (first, second))),
        unknown=[report.name for report in (first, second) if not report.data["run"]["parameters"]],
        gained=gained,
        lost=lost,
        p_value=float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        classes=_compare_classes(second, after.labels, right, was_right),
        script=script,
        script_digest=digest,
        packed=pack(
            {
                "classes": second.data["classes"],
                "images": _merge_images(first, second),
                "curves": merge_curves([(one.name, one.data.get("curves")) for one in (first, second)]),
            }
        ),
    )
    return page, metrics


def describe_basis(first: Report, second: Report) -> str:
    """Describe the images that `compare_runs` compares: how many, and how many of each run are left out."""
    own, other = (set(report.data["images"]["path"]) for report in (first, second))
    common = pluralize(len(own & other), "image")
    left_out = [
        f"{pluralize(len(paths), 'image')} of {report.name}"
        for report, paths in ((first, own - other), (second, other - own))
        if paths
    ]
    if not left_out:
        return f"Evaluated on the same {common}."
    return f"Compared on the {common} that both runs evaluated. Left out: {' and '.join(left_out)}."


def _select_common(first: Report, second: Report) -> tuple[Report, Report]:
    """Return both reports with only their common images, in the order of the second report."""
    for report in (first, second):
        images = report.data["images"]
        if len(images["path"]) < images["total"]:
            raise EvaluationTableError(
                [
                    f"{report.name}: the report lists only {len(images['path']):,} of {images['total']:,} images → "
                    "compare the runs with evaluation.compare_with"
                ]
            )
    paths = [report.data["images"]["path"] for report in (first, second)]
    position = {path: row for row, path in enumerate(paths[0])}
    rows = [(position[path], row) for row, path in enumerate(paths[1]) if path in position]
    if not rows:
        raise EvaluationTableError(
            [
                f"{first.name} and {second.name} have no images in common ({len(paths[0]):,} and {len(paths[1]):,} "
                "images) → evaluate both models on the same list"
            ]
        )
    return _select_images(first, [row for row, _ in rows]), _select_images(second, [row for _, row in rows])


def _select_images(report: Report, rows: list[int]) -> Report:
    images = report.data["images"]
    # A column is a list with a value per image, or maps the numbers of some images to values.
    selected = {
        name: {str(new): column[str(old)] for new, old in enumerate(rows) if str(old) in column}
        if isinstance(column, Mapping)
        else [column[row] for row in rows]
        for name, column in images.items()
        if name != "total"
    }
    return replace(report, data={**report.data, "images": {**selected, "total": len(rows)}})


def _require_same_labels(first: Report, second: Report, before: _Predictions, after: _Predictions) -> None:
    differing = np.flatnonzero(before.labels != after.labels)
    if differing.size:
        row = int(differing[0])
        raise EvaluationTableError(
            [
                f"{second.data['images']['path'][row]}: the label is {before.labels[row]} in {first.name}, but "
                f"{after.labels[row]} in {second.name} ({pluralize(differing.size, 'image')} with a different label) → "
                "evaluate both models on the same list"
            ]
        )


def _read_predictions(report: Report) -> _Predictions:
    images = report.data["images"]
    return _Predictions(
        np.array(images["label"]),
        np.array(images["predicted"]),
        np.array(images["probability"]) / PROBABILITY_UNIT,
        np.array(images["trueProbability"]) >= 0,
    )


def _compare_metrics(before: _Predictions, after: _Predictions) -> list[MetricDifference]:
    count = len(after.labels)
    ones = np.ones(count)
    first, second = _compute_metrics(before, ones), _compute_metrics(after, ones)
    draw = np.random.default_rng(_SEED)
    resampled = np.zeros((_RESAMPLES, len(_METRICS)))
    for index in range(_RESAMPLES):
        weights = np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)
        resampled[index] = _compute_metrics(after, weights) - _compute_metrics(before, weights)
    found = []
    for index, (name, is_higher_better) in enumerate(_METRICS.values()):
        interval = interval_of(resampled[:, index])
        is_better = None if interval.low <= 0 <= interval.high else (interval.low > 0) == is_higher_better
        found.append(
            MetricDifference(name, float(first[index]), float(second[index]), interval.low, interval.high, is_better)
        )
    return found


def _compute_metrics(table: _Predictions, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted values of `_METRICS`, with one weight per image."""
    total = weights.sum()
    hits = weights * (table.labels == table.predicted)
    count = int(max(table.labels.max(), table.predicted.max())) + 1
    images, correct = np.bincount(table.labels, weights, count), np.bincount(table.labels, hits, count)
    predicted = np.bincount(table.predicted, weights, count)
    occurs = images > 0
    bins = np.clip(np.ceil(table.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, hits, BINS) - np.bincount(bins, weights * table.confidence, BINS)
    return np.array(
        [
            hits.sum() / total,
            (weights * table.is_top5).sum() / total,
            (correct[occurs] / images[occurs]).mean(),
            (2 * correct / np.maximum(images + predicted, 1))[occurs | (predicted > 0)].mean(),
            np.abs(gaps).sum() / total,
        ]
    )


def _compare_classes(
    second: Report, labels: NDArray[np.int64], right: NDArray[np.bool_], was_right: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Return the classes whose number of correct images changed most, with the images gained and lost."""
    count = len(second.data["classes"]["name"])
    gained = np.bincount(labels[right & ~was_right], minlength=count)
    lost = np.bincount(labels[was_right & ~right], minlength=count)
    images = np.bincount(labels, minlength=count)
    order = np.lexsort((np.arange(count), -np.abs(gained - lost)))[:_CLASSES_SHOWN]
    return [
        {
            "name": second.data["classes"]["name"][row],
            "images": int(images[row]),
            "gained": int(gained[row]),
            "lost": int(lost[row]),
        }
        for row in order
        if gained[row] != lost[row]
    ]


def _merge_images(first: Report, second: Report) -> dict[str, Any]:
    """Return the images of the second run, with the class that the first run predicted and the thumbnails of both."""
    before, after = first.data["images"], second.data["images"]
    position = {path: row for row, path in enumerate(before["path"])}
    rival, thumbnails = [], dict(after["thumbnails"])
    for row, path in enumerate(after["path"]):
        other = position[path]
        was_right = before["predicted"][other] == before["label"][other]
        is_right = after["predicted"][row] == after["label"][row]
        rival.append(-1 if was_right == is_right else before["predicted"][other])
        if str(row) not in thumbnails and str(other) in before["thumbnails"]:
            thumbnails[str(row)] = before["thumbnails"][str(other)]
    return {**after, "rival": rival, "thumbnails": thumbnails}
