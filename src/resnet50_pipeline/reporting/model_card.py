"""Renders the model card in Markdown (Mitchell et al. 2019, "Model Cards for Model Reporting")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet50_pipeline.reporting.class_intervals import add_intervals
from resnet50_pipeline.reporting.comparison import describe_comparison
from resnet50_pipeline.reporting.metrics import confused_pairs
from resnet50_pipeline.reporting.report import ReportInputs
from resnet50_pipeline.reporting.run_pages.results import MODEL
from resnet50_pipeline.text import list_names, pluralize

_ROWS, _CLASSES_SHOWN = 5, 10
_USAGE = f"""```python
import mlflow.pyfunc
import pandas as pd

model = mlflow.pyfunc.load_model("{MODEL}")
print(model.predict(pd.DataFrame({{"path": ["image.jpg"]}}), params={{"top_k": 5}}))
```"""
_LIMITS = (
    "The model always predicts one of its classes, even for images that show something else. The measured accuracy "
    "applies to images like those in the evaluated list; it may be lower for other cameras, places or times."
)


@dataclass(frozen=True)
class DataOrigin:
    """Where a dataset comes from, and the terms under which it may be used. "" means "not stated"."""

    origin: str = ""
    license: str = ""


def render_model_card(inputs: ReportInputs, origin: DataOrigin = DataOrigin()) -> str:
    """Return the model card, with the same facts as the evaluation report.

    Raises:
        EvaluationTableError: if a table is malformed.
    """
    sections = [
        _describe_model(inputs),
        "## Intended use\n\n" + _describe_use(inputs),
        "## Results\n\n" + _describe_results(inputs),
        "## Limits\n\n" + _describe_limits(inputs),
        "## Usage\n\n" + _USAGE,
        "## Data\n\n" + _describe_data(inputs, origin),
        "## Provenance\n\n" + _describe_provenance(inputs),
    ]
    return "\n\n".join(sections) + "\n"


def _describe_model(inputs: ReportInputs) -> str:
    summary, trained = inputs.evaluation_summary, inputs.training_summary
    lines = [f"# {summary['arch']}, {len(inputs.per_class):,} classes", ""]
    lines.append(
        f"This is an image classifier from checkpoint `{summary['checkpoint']}` "
        f"(epoch {_or_unknown(summary['epoch'])})."
    )
    if trained is not None:
        lines.append(
            f"It was trained for {pluralize(trained['epochs'], 'epoch')} ({pluralize(trained['steps'], 'step')}) on "
            f"{pluralize(trained['ranks'], 'rank')} ({trained['device']}, Paddle {trained['paddle_version']}). "
            f"The best epoch was {trained['best_epoch']}."
        )
        if trained.get("patience"):
            lines.append(f"Training stopped early after {pluralize(trained['patience'], 'epoch')} without improvement.")
        if weights := trained.get("class_weights"):
            lines.append(f"In the loss, class weights ranged from {weights[0]:.3g} to {weights[1]:.3g}.")
        if images := trained.get("balanced_images_per_epoch"):
            lines.append(f"Each epoch had {images:,} images, with the same number from each class.")
    return "\n".join(lines)


def _describe_use(inputs: ReportInputs) -> str:
    names = [_plain(row["name"] or row["synset"]) for row in inputs.per_class.to_dict("records")]
    return (
        f"Classify an image of a single object into {len(names):,} classes: {list_names(names, _CLASSES_SHOWN)}. The "
        "model is not intended for images of several objects, for finding where an object is, or for decisions about "
        "people."
    )


def _describe_results(inputs: ReportInputs) -> str:
    metrics = inputs.metrics
    split = inputs.evaluation_summary.get("split")
    where = f"`{inputs.evaluation_summary['list']}`" + (f" ({split} split)" if split else "")
    rows = []
    for name, key in (("top-1", "top1"), ("top-5", "top5"), ("balanced accuracy", "balanced_accuracy")):
        rows.append((name, f"{metrics[key]:.2%}", f"{metrics[f'{key}_low']:.2%} to {metrics[f'{key}_high']:.2%}"))
    if "real_top1" in metrics:
        ends = f"{metrics['real_top1_low']:.2%} to {metrics['real_top1_high']:.2%}"
        rows.append(("top-1, any true label", f"{metrics['real_top1']:.2%}", ends))
    rows += [
        ("macro F1", f"{metrics['macro_f1']:.4f}", ""),
        ("loss", f"{metrics['loss']:.4f}", ""),
        ("expected calibration error", f"{metrics['ece']:.2%}", ""),
    ]
    table = f"{pluralize(int(metrics['images']), 'image')} of {where}:\n\n" + _table(
        ("", "value", "95% confidence interval"), rows
    )
    if inputs.comparison["rival"] is None:
        return table
    return f"{table}\n\nThe model is {describe_comparison(dict(inputs.comparison))}."


def _describe_limits(inputs: ReportInputs) -> str:
    classes = add_intervals(inputs.per_class)
    worst = classes[classes["is_below_average"]].sort_values(["top1", "id"]).head(_ROWS)
    rows = [
        (row["name"] or row["synset"], f"{row['top1']:.1%} of {row['images']}", row["confused_with"])
        for row in worst.to_dict("records")
    ]
    table = (
        "Classes significantly below the average accuracy:\n\n"
        + _table(("class", "top-1", "most frequent wrong prediction"), rows)
        if rows
        else "No class is significantly below the average accuracy."
    )
    pairs = confused_pairs(inputs.predictions, inputs.label_map, _ROWS).to_dict("records")
    listed = [
        f"- {_plain(one['true_name'])} predicted as {_plain(one['predicted_name'])}: {one['images']}" for one in pairs
    ]
    title = "\n\nMost confused pairs of classes, with the number of images:\n\n"
    confused = title + "\n".join(listed) if listed else ""
    return f"{_LIMITS}\n\n{table}{confused}"


def _describe_data(inputs: ReportInputs, origin: DataOrigin) -> str:
    report = inputs.validation_report
    lines = [
        f"- origin: {_plain(origin.origin) or 'not stated; set evaluation.data_origin'}",
        f"- license: {_plain(origin.license) or 'not stated; set evaluation.data_license'}",
    ]
    lines += [
        f"- {split}: {numbers['images']:,} images in {numbers['classes']:,} classes, "
        f"{_range(numbers['min_images_per_class'], numbers['max_images_per_class'])} per class"
        for split, numbers in report["statistics"].items()
        if isinstance(numbers, dict) and "min_images_per_class" in numbers
    ]
    broken = [expectation for expectation in report["expectations"] if not expectation["success"]]
    lines.append(f"- passed expectations: {len(report['expectations']) - len(broken)} of {len(report['expectations'])}")
    lines += [
        f"- failed: {_plain(one['description'])} ({pluralize(one['problem_count'], 'problem')})" for one in broken
    ]
    lines.append(f"- data digest: `{report['data_digest']}`")
    return "\n".join(lines)


def _describe_provenance(inputs: ReportInputs) -> str:
    summary, provenance = inputs.evaluation_summary, inputs.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return "\n".join(
        [
            f"- source: {provenance.source}",
            *([f"- source of the evaluation: {provenance.evaluation_source}"] if provenance.evaluation_source else []),
            f"- weights: `{summary['weights_digest']}`",
            f"- evaluation: `{inputs.evaluation_digest}`",
            f"- evaluated on: {summary['device']}, {pluralize(summary['ranks'], 'rank')}, "
            f"Paddle {summary['paddle_version']}",
            *_describe_packed_pixels(summary),
            f"- command: `{provenance.command}`",
            f"- versions: {versions}",
            f"- written: {provenance.written_at:%Y-%m-%d %H:%M} UTC",
        ]
    )


def _describe_packed_pixels(summary: Mapping[str, Any]) -> list[str]:
    """Return lines about the packed images and their fidelity, or [] if the original images were evaluated."""
    if not summary.get("packed_pixels"):
        return []
    fidelity = summary.get("packed_fidelity")
    return [
        f"- evaluated on packed images: {summary['packed_pixels']}",
        *([f"- {_plain(fidelity)}"] if fidelity else []),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in lines)


def _plain(cell: Any) -> str:
    """Return the cell as text without line breaks, `|` or HTML tags. Class names may contain all of these."""
    return " ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;")


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)
