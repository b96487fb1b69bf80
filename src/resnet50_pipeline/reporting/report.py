"""Renders the evaluation report as a self-contained, interactive HTML page."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from resnet50_pipeline.figures import format_percent
from resnet50_pipeline.files import digest_json
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.imagenet.lists.patches import PATCHED_SPLITS
from resnet50_pipeline.reporting.batch_samples import BatchSamples
from resnet50_pipeline.reporting.class_intervals import add_intervals
from resnet50_pipeline.reporting.classes import ClassNames, read_class_names
from resnet50_pipeline.reporting.comparison import describe_comparison, describe_patches
from resnet50_pipeline.reporting.curve_data import describe_curves, merge_curves
from resnet50_pipeline.reporting.data_quality.explained import ExplainedImage
from resnet50_pipeline.reporting.data_quality.label_gallery import (
    LabelGallery,
    describe_label_issues,
    describe_low_margins,
)
from resnet50_pipeline.reporting.data_quality.robustness import describe_robustness
from resnet50_pipeline.reporting.page_data import (
    describe_classes,
    describe_confusion,
    describe_images,
    describe_reliability,
    pack,
)
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.reporting.provenance import Provenance
from resnet50_pipeline.reporting.recipe_difference import RecipeDifference, compare_parameters
from resnet50_pipeline.reporting.run_pages.environment import make_environment
from resnet50_pipeline.text import format_bytes, format_duration, list_names, pluralize

TEMPLATE = "evaluation_report.html.jinja"
_SCRIPTS = ("charts.js", "image_browser.js", "evaluation_report.js")
_SPLITS = ("train", "val", "test")
_MAX_OBSERVED_CHARACTERS = 300
_CLASSES_NAMED = 10
# In bins with fewer images, the accuracy is unreliable.
_IMAGES_PER_RELIABLE_BIN = 30


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """The inputs of an evaluation report. Each field has the format of the catalog entry with the same name."""

    metrics: Mapping[str, float]
    predictions: pd.DataFrame
    per_class: pd.DataFrame
    label_map: Mapping[str, Any]
    evaluation_summary: Mapping[str, Any]
    comparison: Mapping[str, Any]
    """Result of `compare_predictions`, with the name of the rival.

    `training` has the rival's `parameters` and `curves`, as in its own report, or is None if these are unknown. If
    there was no comparison, `rival` is None and `reason` explains why.
    """
    training_summary: Mapping[str, Any] | None
    """Summary of the training run, or None if this project did not train the model."""
    training_history: pd.DataFrame | None
    """History of the training run, or None if this project did not train the model."""
    validation_report: Mapping[str, Any]
    recipe: str
    """Text of the PaddleClas YAML file, or "" if this project did not train the model."""
    parameters: Mapping[str, Any]
    """Parameters of the training run as JSON values, for `kedro compare`, or {} if unknown."""
    recipe_difference: RecipeDifference | None
    """Differences from the recipe file, or None if unknown."""
    samples: BatchSamples | None
    """Images from a training and an evaluation batch, or None if this project did not train the model."""
    explained: tuple[ExplainedImage, ...]
    """Images with heat maps."""
    label_issues: pd.DataFrame
    """Images whose labels are probably wrong (`tabulate_label_issues`)."""
    label_issues_review: ReviewCommands
    """Commands that review these images and apply the decisions."""
    margins: pd.DataFrame | None
    """Margins of the training images, or None if they were not recorded."""
    slices: pd.DataFrame
    """Accuracy on each slice (`compute_slices`)."""
    robustness: pd.DataFrame
    """Errors on corrupted images (`tabulate_robustness`); no rows if they were not measured."""
    dataset_root: Path
    """Folder that the paths of the evaluated images are relative to."""
    train_root: Path
    """Folder that the paths of the train images are relative to."""
    provenance: Provenance
    worst_classes: int
    """Number of rows in the tables of the worst classes and the most confused pairs."""
    gallery_images: int
    """Maximum number of images that the report shows as thumbnails."""

    @property
    def evaluation_digest(self) -> str:
        """Digest of the metrics, the summary and the data digest.

        Registration rejects a page from another evaluation.
        """
        return digest_json(self.metrics, self.evaluation_summary, self.validation_report["data_digest"])


def render_report(inputs: ReportInputs) -> str:
    """Return the HTML page. The page has a light and a dark theme, and contains its script, its data and all images.

    Raises:
        EvaluationTableError: if a table is malformed.
    """
    names = read_class_names(inputs.label_map)
    table = read_prediction_table(inputs.predictions, len(names))
    data = _collect_data(inputs, table, names)
    robustness = describe_robustness(inputs.robustness, inputs.metrics)
    statistics = inputs.validation_report["statistics"]
    environment = make_report_environment()
    script, digest = read_script(_SCRIPTS)
    return environment.get_template(TEMPLATE).render(
        inputs=inputs,
        script=script,
        script_digest=digest,
        packed=pack(data | {"robustness": robustness and robustness["panel"]}),
        compared=_describe_comparison(inputs, names),
        patches=describe_patches(inputs.validation_report.get("patches", ()), inputs.comparison, names),
        balance=_describe_balance(inputs.validation_report),
        class_count=len(names),
        shown_sentence=_describe_shown_images(data["images"]),
        below_sentence=_describe_classes_below_average(inputs, names),
        gap_sentence=_describe_largest_gap(data["reliability"]),
        issues=_describe_label_issues(inputs),
        review=inputs.label_issues_review if inputs.label_issues["split"].isin(PATCHED_SPLITS).any() else None,
        low_margins=None if inputs.margins is None else describe_low_margins(inputs.margins, names, inputs.train_root),
        slices=inputs.slices.to_dict("records"),
        robustness=robustness,
        mistake_count=int((~table.is_top1).sum()),
        splits={name: statistics[name] for name in _SPLITS if name in statistics},
        further_statistics={name: value for name, value in statistics.items() if name not in _SPLITS},
    )


def _collect_data(inputs: ReportInputs, table: PredictionTable, names: ClassNames) -> dict[str, Any]:
    rival = {one["path"]: one["predicted"] for one in inputs.comparison.get("changed", [])}
    curves = None if inputs.training_history is None else describe_curves(inputs.training_history)
    rival_curves = (inputs.comparison.get("training") or {}).get("curves")
    return {
        "run": {"parameters": inputs.parameters},
        "classes": describe_classes(inputs.per_class, names),
        "confusion": describe_confusion(table, len(names)),
        "images": describe_images(table, inputs.dataset_root, inputs.gallery_images, rival),
        "reliability": describe_reliability(table),
        "metrics": {name: inputs.metrics[name] for name in ("top1", "macro_precision", "macro_f1")},
        "rows": inputs.worst_classes,
        "curves": curves,
        "comparedCurves": merge_curves([(inputs.comparison["rival"], rival_curves), ("this model", curves)])
        if rival_curves
        else None,
    }


def _describe_label_issues(inputs: ReportInputs) -> LabelGallery:
    splits = [inputs.evaluation_summary.get("split") or ""]
    if "train" in set(inputs.label_issues["split"]):
        splits.append("train")
    return describe_label_issues(inputs.label_issues, splits, inputs.train_root)


def _describe_shown_images(images: Mapping[str, Any]) -> str:
    total, listed, shown = images["total"], len(images["path"]), len(images["thumbnails"])
    if shown == total:
        return f"All {total:,} images from the evaluation."
    text = (
        f"Thumbnails: {shown:,} of {total:,} images (the most confident wrong predictions and the least confident "
        "correct predictions of each class)."
    )
    if listed < total:
        text += f" Listed: {listed:,} images (all wrong predictions and the least confident correct predictions)."
    return text


def _describe_classes_below_average(inputs: ReportInputs, names: ClassNames) -> str:
    table = add_intervals(inputs.per_class)
    below = table[table["is_below_average"]].sort_values(["top1", "id"])
    overall = f"the accuracy over all images ({format_percent(inputs.metrics['top1'])})"
    if below.empty:
        text = f"No class is significantly below {overall}."
    else:
        listed = list_names([names.labels[class_id] for class_id in below["id"]], _CLASSES_NAMED)
        verb = "is" if len(below) == 1 else "are"
        classes = pluralize(len(names), "class", "classes")
        text = f"{len(below):,} of {classes} {verb} significantly below {overall}: {listed}."
    if empty := int((table["images"] == 0).sum()):
        text += f" {pluralize(empty, 'class has', 'classes have')} no images."
    return f"{text} The lines in the chart are 95% confidence intervals."


def _describe_largest_gap(bins: Sequence[Mapping[str, Any]]) -> str:
    reliable = [one for one in bins if one["images"] >= _IMAGES_PER_RELIABLE_BIN]
    if not reliable:
        return f"No bin has {_IMAGES_PER_RELIABLE_BIN} or more images."
    worst = max(reliable, key=lambda one: abs(one["accuracy"] - one["confidence"]))
    gap = format_percent(abs(worst["accuracy"] - worst["confidence"]))
    return (
        f"The largest gap in a bin with at least {_IMAGES_PER_RELIABLE_BIN} images is {gap} (confidence "
        f"{format_percent(worst['low'], 0)} to {format_percent(worst['high'], 0)}, {worst['images']:,} images)."
    )


def _describe_comparison(inputs: ReportInputs, names: ClassNames) -> dict[str, Any] | None:
    """Return the comparison with a summary sentence and class names added, or None if the model was not compared."""
    if inputs.comparison["rival"] is None:
        return None
    comparison = dict(inputs.comparison)
    training = comparison.get("training") or {}
    theirs = training.get("parameters", {})
    return comparison | {
        "has_curves": bool(training.get("curves")),
        "parameters": compare_parameters(theirs, inputs.parameters),
        "unknown": [
            name
            for name, parameters in ((comparison["rival"], theirs), ("this model", inputs.parameters))
            if not parameters
        ],
        "sentence": describe_comparison(comparison),
        "classes": [{**one, "name": names.labels[one["id"]]} for one in comparison["classes"]],
    }


def _describe_balance(validation_report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return quantiles of images per class and of image sizes, or [] if the report contains no distributions."""
    distributions = validation_report.get("distributions", {})
    rows = [
        {"name": f"images per class, {split}", "is_bytes": False, **numbers}
        for split, numbers in distributions.get("images_per_class", {}).items()
    ]
    names = {"width": "width in pixels", "height": "height in pixels", "bytes": "file size"}
    sizes = distributions.get("sizes", {})
    return rows + [
        {"name": name, "is_bytes": key == "bytes", **sizes[key]} for key, name in names.items() if key in sizes
    ]


def make_report_environment() -> jinja2.Environment:
    """Return the environment of the report's templates, with their filters."""
    environment = make_environment()
    environment.filters.update(
        percent=_percent,
        count=_count,
        counted=pluralize,
        number=_number,
        duration=format_duration,
        size=format_bytes,
        observed=_observed,
        points=_points,
        parameter=_parameter,
    )
    return environment


def read_script(names: Sequence[str]) -> tuple[str, str]:
    """Join the files of a page's script. Return the script and its digest for the page's content security policy."""
    folder = Path(__file__).parent / "templates"
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return script, f"sha256-{digest}"


def _percent(fraction: float, decimals: int = 1) -> str:
    return "n/a" if pd.isna(fraction) else format_percent(fraction, decimals)


def _points(fraction: float) -> str:
    """Return a difference between fractions as signed percentage points, such as +1.25."""
    return f"{100 * fraction:+.2f}"


def _count(value: float) -> str:
    return f"{int(value):,}"


def _number(value: float) -> str:
    """Return a number with three significant digits, or as an integer if it is 100 or more: 0.123, 62.5, 4,000."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _parameter(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str).strip('"')


def _observed(value: Any) -> str:
    """Return a value from the validation report as text, at most 300 characters: `JPEG: 1,281,166, PNG: 1`."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}: {_observed(part)}" for key, part in value.items())
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_OBSERVED_CHARACTERS else text[:_MAX_OBSERVED_CHARACTERS] + "…"
