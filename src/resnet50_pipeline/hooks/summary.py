"""Prints the summary of a run: the result and the paths of the reports, model and log."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline.logs.formats import FIELDS, SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import IN_STREAM, current_log
from resnet50_pipeline.parameters import TrackingParameters, read_group
from resnet50_pipeline.tracking.address import SQLITE, StoreAddress, find_address

logger = logging.getLogger(__name__)

# The default of TRACKING_URI in the Makefile.
_DEFAULT_URI = "sqlite:///mlflow.db"


class SummaryHooks:
    """Prints the summary to stdout, regardless of the log level."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Log the summary, and print it unless the log is quiet or in JSON format."""
        log = current_log()
        lines = summarize(pipeline.all_outputs(), catalog)
        if log.path is not None:
            lines.append(("log", str(log.path)))
        for title, text in lines:
            logger.info("%s: %s", title, text, extra={FIELDS: {title: text}, SHOWN_ELSEWHERE: IN_STREAM})
        if lines and not (log.is_json or log.is_quiet):
            width = max(len(title) for title, _ in lines)
            click.echo()
            for title, text in lines:
                click.echo(f"  {title:<{width}}  {text}")


def summarize(saved: set[str], catalog: CatalogProtocol[Any, Any]) -> list[tuple[str, str]]:
    """Return the title and text of each summary line for a run that has saved the datasets in `saved`."""
    lines = []
    if "metrics" in saved:
        metrics = catalog.load("metrics")
        lines.append(
            ("result", f"top-1 {metrics['top1']:.2%}, top-5 {metrics['top5']:.2%} on {metrics['images']:.0f} images")
        )
    for name, title, page in (
        ("data_docs", "data", "index.html"),
        ("training_dir", "training", ""),
        ("evaluation_report", "report", ""),
    ):
        if name in saved:
            lines.append((title, _shorten_path(Path(catalog[name].filepath) / page)))
    if "registered_model" in saved:
        model = catalog.load("registered_model")
        lines.append(("model", _describe_version(model)))
    if saved & {"training_dir", "metrics", "registered_model"}:
        tracking = read_group(catalog.load("parameters"), "tracking", TrackingParameters)
        place = describe_mlflow(find_address(tracking, Path.cwd()), Path.cwd())
        lines.append(("MLflow", f"{place} shows runs, curves and models"))
    return lines


def describe_mlflow(address: StoreAddress, project_path: Path) -> str:
    """Return the address of a server, or the command that opens the MLflow UI for a database.

    `make ui` exists only in a project folder, and shows `mlflow.db` there unless TRACKING_URI names another database.
    """
    if address.kind == "server":
        return address.shown
    uri = address.shown
    if address.file is not None and address.file.is_relative_to(project_path):
        uri = f"{SQLITE}{address.file.relative_to(project_path)}"
    if not (project_path / "pyproject.toml").is_file():
        return f"`{shlex.join(['mlflow', 'ui', '--backend-store-uri', uri])}`"
    return "`make ui`" if uri == _DEFAULT_URI else f"`{shlex.join(['make', 'ui', f'TRACKING_URI={uri}'])}`"


def _describe_version(model: Mapping[str, Any]) -> str:
    """Return the registered version and its alias, or the gate checks that it failed."""
    version = f"{model['name']} version {model['version']}"
    if model["alias"]:
        return f"{version}, {model['alias']}"
    failed = [check["finding"] for check in model["gate"]["checks"] if not check["passed"]]
    return f"{version}, no alias: {'; '.join(failed)}"


def _shorten_path(path: Path) -> str:
    """Make a path relative to the current folder if it is inside that folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
