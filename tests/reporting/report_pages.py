"""Renders reports for generated evaluations, and parses their HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from evaluation_tables import EvaluationTables

from resnet50_pipeline.reporting.metrics import compute_metrics, per_class_table
from resnet50_pipeline.reporting.plots import write_plots
from resnet50_pipeline.reporting.provenance import Provenance
from resnet50_pipeline.reporting.report import ReportInputs, render_report

RECIPE = "Global:\n  epochs: 5\nArch:\n  name: ResNet50\n  class_num: 10\n"
PROVENANCE = Provenance(
    written_at=datetime(2026, 11, 24, 6, 30, tzinfo=UTC),
    source="4f0c2a7d9b1e4f0c2a7d9b1e4f0c2a7d9b1e4f0c (with uncommitted changes)",
    versions={"paddleclas": "2.6.0", "kedro": "1.7.0"},
    command="kedro run --env imagenet",
    machine="Linux x86_64, Python 3.11.2",
)
_TEXTS = {"title", "header", "section"}
_VOID = {"meta", "link", "source", "img", "br"}


def draw_plots(directory: Path, evaluation: EvaluationTables) -> Path:
    """Write the figures for an evaluation, and return their folder."""
    write_plots(
        directory,
        predictions=evaluation.predictions,
        per_class=per_class_table(evaluation.predictions, evaluation.label_map),
        label_map=evaluation.label_map,
        training_history=evaluation.training_history,
        worst_pairs=5,
    )
    return directory


def report_inputs(directory: Path, evaluation: EvaluationTables, plots_dir: Path, **changes: Any) -> ReportInputs:
    """Return the inputs for a report that reads its images from `directory`."""
    inputs: dict[str, Any] = {
        "metrics": compute_metrics(evaluation.predictions, evaluation.evaluation_summary),
        "predictions": evaluation.predictions,
        "per_class": per_class_table(evaluation.predictions, evaluation.label_map),
        "label_map": evaluation.label_map,
        "evaluation_summary": evaluation.evaluation_summary,
        "comparison": {"rival": None, "reason": ""},
        "training_summary": evaluation.training_summary,
        "validation_report": evaluation.validation_report,
        "recipe": RECIPE,
        "dataset_root": directory,
        "plots_dir": plots_dir,
        "provenance": PROVENANCE,
        "worst_classes": 5,
        "gallery_images": 6,
    }
    return ReportInputs(**{**inputs, **changes})


def render_page(directory: Path, evaluation: EvaluationTables, plots_dir: Path, **changes: Any) -> str:
    """Return the report on an evaluation."""
    return render_report(report_inputs(directory, evaluation, plots_dir, **changes))


class Page(HTMLParser):
    """The tags in an HTML page, in order, and the text of each section. Fails if tags are not nested correctly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the tag. If it opens a section, the header or the title, start a new text."""
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in _VOID:
            self._open.append(tag)
        if tag in _TEXTS:
            self._section = attributes.get("id", tag)
            self.sections[self._section] = ""

    def handle_endtag(self, tag: str) -> None:
        """Check that the closing tag matches the innermost open tag."""
        assert self._open.pop() == tag, f"</{tag}> closes another tag"
        if tag in _TEXTS:
            self._section = ""

    def handle_data(self, data: str) -> None:
        """Append to the text of the current section, collapsing whitespace."""
        if self._section:
            self.sections[self._section] = " ".join(f"{self.sections[self._section]} {data}".split())

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of each tag with this name."""
        return [attributes for name, attributes in self.tags if name == tag]
