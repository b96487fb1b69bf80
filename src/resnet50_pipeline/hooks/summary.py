"""What a run prints at its end: where things are, in the lines that apply to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline.logs.formats import FIELDS, SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import IN_STREAM, current_log

logger = logging.getLogger(__name__)


class SummaryHooks:
    """Prints to standard output, so that it stands there whatever the log level is."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Print the lines of the datasets that this run has saved, and log them where nothing is to be printed."""
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
    """Return title and text of each line that applies where the datasets `saved` were saved."""
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
            lines.append((title, _shown(Path(catalog[name].filepath) / page)))
    if "registered_model" in saved:
        model = catalog.load("registered_model")
        lines.append(("model", _describe_version(model)))
    if saved & {"training_dir", "metrics", "registered_model"}:
        lines.append(("MLflow", f"`{command_of_page()}` shows runs, curves and models"))
    return lines


def command_of_page() -> str:
    """Return the command that opens MLflow's page; a package that runs without the project's folder has no Makefile."""
    return "make ui" if Path("pyproject.toml").is_file() else "mlflow ui --backend-store-uri …"


def _describe_version(model: Mapping[str, Any]) -> str:
    """Return which version was registered, and its alias, or the rules of the gate that kept it from one."""
    version = f"{model['name']} version {model['version']}"
    if model["alias"]:
        return f"{version}, {model['alias']}"
    broken = [check["finding"] for check in model["gate"]["checks"] if not check["passed"]]
    return f"{version}, without alias: {'; '.join(broken)}"


def _shown(path: Path) -> str:
    """Return a path as short as it can be typed."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
