"""Prints the summary of a run: the result and the paths of the reports, model and log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.hooks.index_page import index_path, writes_index
from resnet50_pipeline.hooks.mlflow_place import find_place
from resnet50_pipeline.hooks.progress import list_outputs
from resnet50_pipeline.logs.formats import FIELDS, SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import IN_STREAM, current_log
from resnet50_pipeline.reporting.run_pages.results import describe_result, describe_version

logger = logging.getLogger(__name__)


class SummaryHooks:
    """Prints the summary to stdout, regardless of the log level."""

    def __init__(self) -> None:
        self._outputs: set[str] = set()

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Remember which datasets the run saves."""
        self._outputs = list_outputs(run_params, pipeline, catalog)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]) -> None:
        """Log the summary, and print it unless the log is quiet or in JSON format."""
        log = current_log()
        lines = summarize(self._outputs, catalog, run_params)
        if log.path is not None:
            lines.append(("log", str(log.path)))
        index = index_path(catalog)
        if writes_index(self._outputs) and index is not None and index.is_file():
            lines.append(("index", str(shorten_path(index))))
        for title, text in lines:
            logger.info("%s: %s", title, text, extra={FIELDS: {title: text}, SHOWN_ELSEWHERE: IN_STREAM})
        if lines and not (log.is_json or log.is_quiet):
            width = max(len(title) for title, _ in lines)
            click.echo()
            for title, text in lines:
                click.echo(f"  {title:<{width}}  {text}")


def summarize(
    saved: set[str], catalog: CatalogProtocol[Any, Any], run_params: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the title and text of each summary line for a run that has saved the datasets in `saved`."""
    lines = []
    if "metrics" in saved:
        lines.append(("result", describe_result(catalog.load("metrics"))))
    for name, title, page in (
        ("data_docs", "Data Docs", "index.html"),
        ("training_dir", "training", ""),
        ("evaluation_report", "report", ""),
    ):
        if name in saved:
            lines.append((title, str(shorten_path(Path(catalog[name].filepath) / page))))
    if "registered_model" in saved:
        lines.append(("model version", describe_version(catalog.load("registered_model"))))
    if saved & {"training_dir", "metrics", "registered_model"}:
        lines.append(("MLflow run", find_place(run_params, catalog).shown))
    return lines
