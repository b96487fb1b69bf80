"""Renders the evaluation report as a self-contained HTML page."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.figures import DOTS_PER_INCH, data_uri, format_percent
from resnet50_pipeline.files import digest_json
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.comparison import describe_comparison
from resnet50_pipeline.reporting.gallery import make_gallery
from resnet50_pipeline.reporting.metrics import confident_mistakes, confused_pairs
from resnet50_pipeline.reporting.plots import (
    CLASS_ACCURACY,
    CONFUSION,
    DARK_FOLDER,
    MAX_CLASSES_SHOWN_WHOLE,
    RELIABILITY,
    TRAINING_CURVES,
)
from resnet50_pipeline.reporting.provenance import Provenance
from resnet50_pipeline.text import format_bytes, format_duration, pluralize

TEMPLATE = "evaluation_report.html.jinja"
_FIGURES = {
    "curves": TRAINING_CURVES,
    "confusion": CONFUSION,
    "class_accuracy": CLASS_ACCURACY,
    "reliability": RELIABILITY,
}
_SPLITS = ("train", "val", "test")
_MAX_OBSERVED_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """The inputs of an evaluation report. Each field has the format of the catalog entry with the same name."""

    metrics: Mapping[str, float]
    predictions: pd.DataFrame
    per_class: pd.DataFrame
    label_map: Mapping[str, Any]
    evaluation_summary: Mapping[str, Any]
    comparison: Mapping[str, Any]
    """Result of `compare_predictions`. If there was no comparison, `rival` is None and `reason` explains why."""
    training_summary: Mapping[str, Any] | None
    """Summary of the training run, or None if this project did not train the model."""
    validation_report: Mapping[str, Any]
    recipe: str
    """Text of the PaddleClas YAML file, or "" if this project did not train the model."""
    dataset_root: Path
    plots_dir: Path
    """Output folder of `write_plots`."""
    provenance: Provenance
    worst_classes: int
    """Number of rows in the tables of the worst classes and the most confused pairs."""
    gallery_images: int

    @property
    def evaluation_digest(self) -> str:
        """Digest of the metrics, the summary and the data digest.

        Registration rejects a page from another evaluation.
        """
        return digest_json(self.metrics, self.evaluation_summary, self.validation_report["data_digest"])


@dataclass(frozen=True)
class _Figure:
    light: str
    dark: str
    width: int
    height: int


def render_report(inputs: ReportInputs) -> str:
    """Return the HTML page. It has a light and a dark theme, and contains all images as `data:` URIs.

    Raises:
        EvaluationTableError: if a table is malformed or a figure is missing.
    """
    mistakes = confident_mistakes(inputs.predictions, inputs.label_map, inputs.gallery_images)
    with_images = inputs.per_class[inputs.per_class["images"] > 0]
    worst = with_images.sort_values(["top1", "images", "id"], ascending=[True, False, True]).head(inputs.worst_classes)
    statistics = inputs.validation_report["statistics"]
    return _environment().get_template(TEMPLATE).render(
        inputs=inputs,
        figures={
            name: _inline_figure(inputs.plots_dir, file_name)
            for name, file_name in _FIGURES.items()
            if name != "curves" or inputs.training_summary is not None
        },
        compared=_describe_comparison(inputs),
        balance=_describe_balance(inputs.validation_report),
        is_confusion_whole=len(inputs.per_class) <= MAX_CLASSES_SHOWN_WHOLE,
        pairs=confused_pairs(inputs.predictions, inputs.label_map, inputs.worst_classes).to_dict("records"),
        classes=inputs.per_class.to_dict("records"),
        worst=worst.to_dict("records"),
        gallery=make_gallery(mistakes, inputs.dataset_root),
        mistake_count=int((inputs.per_class["images"] - inputs.per_class["correct"]).sum()),
        splits={name: statistics[name] for name in _SPLITS if name in statistics},
        further_statistics={name: value for name, value in statistics.items() if name not in _SPLITS},
    )  # fmt: skip


def _describe_comparison(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the comparison with a summary sentence and class names added, or None if the model was not compared."""
    if inputs.comparison["rival"] is None:
        return None
    labels = read_class_names(inputs.label_map).labels
    comparison = dict(inputs.comparison)
    return comparison | {
        "sentence": describe_comparison(comparison),
        "classes": [{**one, "name": labels[one["id"]]} for one in comparison["classes"]],
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


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resnet50_pipeline.reporting"),
        # Class names and file names come from the dataset and may contain HTML.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=_percent,
        count=_count,
        counted=pluralize,
        number=_number,
        duration=format_duration,
        size=format_bytes,
        observed=_observed,
        points=_points,
    )
    return environment


def _inline_figure(plots_dir: Path, file_name: str) -> _Figure:
    light, dark = (_read_plot(folder / file_name) for folder in (plots_dir, plots_dir / DARK_FOLDER))
    # Bytes 16..23 of a PNG are its width and height. A page has 96 pixels per inch. Scaling by resolution makes the
    # text in all figures the same size.
    width, height = (round(pixels * 96 / DOTS_PER_INCH) for pixels in struct.unpack(">II", light[16:24]))
    return _Figure(data_uri(light, "image/png"), data_uri(dark, "image/png"), width, height)


def _read_plot(path: Path) -> bytes:
    if not path.is_file():
        raise EvaluationTableError([f"{path} is missing, but the report includes it; run the draw_plots node again"])
    return path.read_bytes()


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


def _observed(value: Any) -> str:
    """Return a value from the validation report as text, at most 300 characters: `JPEG: 1,281,166, PNG: 1`."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}: {_observed(part)}" for key, part in value.items())
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_OBSERVED_CHARACTERS else text[:_MAX_OBSERVED_CHARACTERS] + "…"
