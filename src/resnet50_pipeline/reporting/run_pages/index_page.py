"""Renders the index page of a run, which links to all results of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resnet50_pipeline.reporting.run_pages.environment import make_environment
from resnet50_pipeline.reporting.run_pages.results import Link, describe_interval

_TEMPLATE = "index.html.jinja"


@dataclass(frozen=True, kw_only=True)
class IndexInputs:
    """The contents of an index page.

    Attributes:
        name: name of the run.
        metrics: metrics from the evaluation, or None if there is no evaluation.
        model: `registered_model` from the catalog, or None if no version is registered.
        links: the pages and files.
        facts: other properties of the run, such as digests, the commit and the command.
        mlflow_command: command that starts MLflow's UI, or "" if MLflow runs on a server.
        written_at: time at which the page was written.
    """

    name: str
    metrics: Mapping[str, float] | None
    model: Mapping[str, Any] | None
    links: Sequence[Link]
    facts: Mapping[str, str]
    mlflow_command: str
    written_at: datetime


def render_index(inputs: IndexInputs) -> str:
    """Return the HTML page. The page has a light and a dark theme, and loads nothing from the network."""
    interval = describe_interval(inputs.metrics) if inputs.metrics is not None else ""
    return make_environment().get_template(_TEMPLATE).render(inputs=inputs, interval=interval)
