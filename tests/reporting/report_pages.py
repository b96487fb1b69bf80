"""Renders reports for generated evaluations, and parses their HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
from evaluation_tables import EvaluationTables

from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.data_quality.label_issues import tabulate_label_issues
from resnet50_pipeline.reporting.data_quality.robustness import ROBUSTNESS_COLUMNS
from resnet50_pipeline.reporting.data_quality.slices import SLICE_COLUMNS
from resnet50_pipeline.reporting.metrics import compute_metrics, per_class_table
from resnet50_pipeline.reporting.page_data import unpack
from resnet50_pipeline.reporting.prediction_table import read_prediction_table
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
REVIEW = ReviewCommands("kedro review issues.csv --env photos", "kedro data-fix issues.reviewed.csv --env photos")
_TEXTS = {"title", "header", "section"}
_VOID = {"meta", "link", "source", "img", "br"}


def report_inputs(directory: Path, evaluation: EvaluationTables, **changes: Any) -> ReportInputs:
    """Return the inputs for a report that reads its images from `directory`."""
    inputs: dict[str, Any] = {
        "metrics": compute_metrics(evaluation.predictions, evaluation.evaluation_summary),
        "predictions": evaluation.predictions,
        "per_class": per_class_table(evaluation.predictions, evaluation.label_map),
        "label_map": evaluation.label_map,
        "evaluation_summary": evaluation.evaluation_summary,
        "comparison": {"rival": None, "reason": ""},
        "training_summary": evaluation.training_summary,
        "training_history": evaluation.training_history,
        "validation_report": evaluation.validation_report,
        "recipe": RECIPE,
        "parameters": {"training": {"epochs": 5, "lr": {"learning_rate": 0.1}}},
        "recipe_difference": None,
        "samples": None,
        "explained": (),
        "label_issues": tabulate_label_issues(
            {"val": read_prediction_table(evaluation.predictions)}, read_class_names(evaluation.label_map)
        ),
        "label_issues_review": REVIEW,
        "margins": None,
        "slices": pd.DataFrame(columns=list(SLICE_COLUMNS)),
        "robustness": pd.DataFrame(columns=list(ROBUSTNESS_COLUMNS)),
        "dataset_root": directory,
        "train_root": directory,
        "provenance": PROVENANCE,
        "worst_classes": 5,
        "gallery_images": 60,
    }
    return ReportInputs(**{**inputs, **changes})


def render_page(directory: Path, evaluation: EvaluationTables, **changes: Any) -> str:
    """Return the report on an evaluation."""
    return render_report(report_inputs(directory, evaluation, **changes))


def read_data(html: str) -> dict[str, Any]:
    """Return the data that the script of a page draws."""
    _, _, rest = html.partition('id="report-data">')
    return unpack(rest.partition("<")[0])


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
