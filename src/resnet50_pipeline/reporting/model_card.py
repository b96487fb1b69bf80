"""The model card: what the model is, how good it is and on what, in Markdown (Mitchell et al. 2019, "Model Cards")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnet50_pipeline.reporting.comparison import describe_comparison
from resnet50_pipeline.reporting.metrics import confused_pairs
from resnet50_pipeline.reporting.report import ReportInputs

_ROWS = 5


def render_model_card(inputs: ReportInputs) -> str:
    """Return the card of an evaluated model, from the facts of its report.

    Raises:
        EvaluationTableError: a table is malformed.
    """
    sections = [
        _describe_model(inputs),
        "## Results\n\n" + _describe_results(inputs),
        "## Weak points\n\n" + _describe_weak_points(inputs),
        "## Data\n\n" + _describe_data(inputs),
        "## Provenance\n\n" + _describe_provenance(inputs),
    ]
    return "\n\n".join(sections) + "\n"


def _describe_model(inputs: ReportInputs) -> str:
    summary, trained = inputs.evaluation_summary, inputs.training_summary
    lines = [f"# {summary['arch']}, {len(inputs.per_class):,} classes", ""]
    lines.append(f"An image classifier: `{summary['checkpoint']}`, epoch {_or_unknown(summary['epoch'])}.")
    if trained is not None:
        lines.append(
            f"Trained for {trained['epochs']} epochs ({trained['steps']:,} steps) on {trained['ranks']} rank(s) of "
            f"{trained['device']}, Paddle {trained['paddle_version']}; the best epoch was {trained['best_epoch']}."
        )
    lines += [
        "",
        "It takes a picture of one thing, and always answers with one of its classes, whatever it is shown.",
    ]
    return "\n".join(lines)


def _describe_results(inputs: ReportInputs) -> str:
    metrics = inputs.metrics
    rows = [("images", f"{metrics['images']:,.0f} of `{inputs.evaluation_summary['list']}`", "")]
    for name, key in (("top-1", "top1"), ("top-5", "top5"), ("mean of the classes", "balanced_accuracy")):
        rows.append((name, f"{metrics[key]:.2%}", f"{metrics[f'{key}_low']:.2%} to {metrics[f'{key}_high']:.2%}"))
    if "real_top1" in metrics:
        ends = f"{metrics['real_top1_low']:.2%} to {metrics['real_top1_high']:.2%}"
        rows.append(("top-1, any true label", f"{metrics['real_top1']:.2%}", ends))
    rows += [
        ("macro F1", f"{metrics['macro_f1']:.4f}", ""),
        ("loss", f"{metrics['loss']:.4f}", ""),
        ("expected calibration error", f"{metrics['ece']:.2%}", ""),
    ]
    table = _table(("", "value", "95 % interval"), rows)
    if inputs.comparison["rival"] is None:
        return table
    return f"{table}\n\nIt is {describe_comparison(dict(inputs.comparison))}."


def _describe_weak_points(inputs: ReportInputs) -> str:
    classes = inputs.per_class[inputs.per_class["images"] > 0]
    worst = classes.sort_values(["top1", "images", "id"], ascending=[True, False, True]).head(_ROWS)
    rows = [
        (row["name"] or row["synset"], f"{row['top1']:.1%} of {row['images']}", row["confused_with"])
        for row in worst.to_dict("records")
    ]
    table = _table(("class", "top-1", "most often taken for"), rows)
    pairs = confused_pairs(inputs.predictions, inputs.label_map, _ROWS).to_dict("records")
    listed = [
        f"- {_plain(one['true_name'])} taken for {_plain(one['predicted_name'])}: {one['images']}" for one in pairs
    ]
    return table + ("\n\nMost often taken for another, in images:\n\n" + "\n".join(listed) if listed else "")


def _describe_data(inputs: ReportInputs) -> str:
    report = inputs.validation_report
    lines = [
        f"- {split}: {numbers['images']:,} images of {numbers['classes']:,} classes, "
        f"{numbers['min_images_per_class']:,} to {numbers['max_images_per_class']:,} a class"
        for split, numbers in report["statistics"].items()
        if isinstance(numbers, dict) and "min_images_per_class" in numbers
    ]
    broken = [expectation for expectation in report["expectations"] if not expectation["success"]]
    lines.append(
        f"- expectations that hold: {len(report['expectations']) - len(broken)} of {len(report['expectations'])}"
    )
    lines += [f"- does not hold: {_plain(one['description'])} ({one['problem_count']:,} findings)" for one in broken]
    lines.append(f"- data digest: `{report['data_digest']}`")
    return "\n".join(lines)


def _describe_provenance(inputs: ReportInputs) -> str:
    summary, provenance = inputs.evaluation_summary, inputs.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return "\n".join(
        [
            f"- source: {provenance.source}",
            f"- weights: `{summary['weights_digest']}`",
            f"- evaluated on: {summary['device']}, {summary['ranks']} rank(s), Paddle {summary['paddle_version']}",
            *_describe_packed_pixels(summary),
            f"- command: `{provenance.command}`",
            f"- versions: {versions}",
            f"- written: {provenance.written_at:%Y-%m-%d %H:%M} UTC",
        ]
    )


def _describe_packed_pixels(summary: Mapping[str, Any]) -> list[str]:
    """Return what was evaluated in place of the images' own pixels, and how far it is from them; [] for those."""
    if not summary.get("packed_pixels"):
        return []
    fidelity = summary.get("packed_fidelity")
    return [f"- images as packed: {summary['packed_pixels']}", *([f"- {_plain(fidelity)}"] if fidelity else [])]


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in lines)


def _plain(cell: Any) -> str:
    """Return text that neither ends a cell nor a line; names of classes come from the data set."""
    return " ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;")


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)
