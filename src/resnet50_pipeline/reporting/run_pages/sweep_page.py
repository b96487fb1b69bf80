"""Renders the page of a hyperparameter sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet50_pipeline.reporting.run_pages.environment import make_environment

_TEMPLATE = "sweep.html.jinja"


@dataclass(frozen=True)
class SweepFigure:
    """A Plotly figure with its heading and an explanation."""

    title: str
    text: str
    figure: Mapping[str, Any]

    @property
    def script(self) -> str:
        """The figure as JSON that is safe inside a `<script>` element."""
        return json.dumps(self.figure).replace("<", "\\u003c")


@dataclass(frozen=True, kw_only=True)
class SweepInputs:
    """The contents of the page.

    Attributes:
        name: name of the study.
        metric: name of the optimized metric.
        direction: `maximize` or `minimize`.
        rows: one mapping per trial: trial, state, value, epochs, seconds, and the value of each parameter.
        best: number of the best trial, or None.
        reports: relative paths of the trials' reports, keyed by trial number.
        figures: the plots.
        plotly_js: source of plotly.js.
    """

    name: str
    metric: str
    direction: str
    rows: Sequence[Mapping[str, Any]]
    best: int | None
    reports: Mapping[int, str]
    figures: Sequence[SweepFigure]
    plotly_js: str

    @property
    def paths(self) -> list[str]:
        """The parameters of the search space."""
        known = ("trial", "state", "value", "epochs", "seconds")
        return [path for path in dict.fromkeys(path for row in self.rows for path in row) if path not in known]

    @property
    def best_row(self) -> Mapping[str, Any] | None:
        """The row of the best trial."""
        return next((row for row in self.rows if row["trial"] == self.best), None)


def render_sweep_page(inputs: SweepInputs) -> str:
    """Return the HTML page. The page has a light and a dark theme, and loads nothing from the network."""
    environment = make_environment()
    environment.filters["cell"] = format_cell
    environment.filters["parts"] = _split_path
    return environment.get_template(_TEMPLATE).render(inputs=inputs)


def format_cell(value: object) -> str:
    """Return a parameter's value with at most four significant digits, or "" for None."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _split_path(path: str) -> list[str]:
    """Split a parameter's name after dots and underscores, where a browser may break the line."""
    return re.findall(r"[^._]*[._]?", path.removeprefix("training."))[:-1]
