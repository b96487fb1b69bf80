"""Implements `kedro compare`, which writes a page that compares two evaluated runs."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import CONFIGURATION_OPTIONS
from resnet50_pipeline.commands.tracking.registry import open_registry
from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.files import write_text

if TYPE_CHECKING:
    from resnet50_pipeline.reporting.run_comparison import Report

REPORT_FILE = "evaluation_report.html"
_REPORT_FOLDER = "08_reporting"


@click.command("compare", params=[*CONFIGURATION_OPTIONS])
@click.argument("run_a")
@click.argument("run_b")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default="comparison.html", show_default=True,
    help="File to write.",
)  # fmt: skip
@click.pass_context
def compare(context: click.Context, /, run_a: str, run_b: str, output: Path, **options: Any) -> None:
    """Write a page that compares RUN_B with RUN_A: metrics, parameters, curves and images.

    A run is a folder of results such as data/sample, an evaluation_report.html, a registered version such as
    models:/resnet50-digits@champion, or the ID or name of a run in MLflow. Only images that both
    runs evaluated are compared.
    """
    started = Path.cwd()
    with reporting_errors(context):
        from resnet50_pipeline.reporting.run_comparison import compare_runs, describe_basis

        first, second = (_read_run(started, run, options) for run in (run_a, run_b))
        if first.name == second.name:
            first, second = replace(first, name=run_a), replace(second, name=run_b)
        page, metrics = compare_runs(first, second)
        write_text(started / output, page)
        click.echo(describe_basis(first, second))
        for one in metrics:
            change, low, high = (100 * value for value in (one.second - one.first, one.low, one.high))
            click.echo(
                f"{one.name:<18} {one.first:8.2%} {one.second:8.2%}  {change:+.2f} points ({low:+.2f} to {high:+.2f})"
            )
        click.echo(str(output))


def _read_run(started: Path, run: str, options: dict[str, Any]) -> Report:
    from resnet50_pipeline.reporting.run_comparison import read_report

    path = started / run
    if path.is_file():
        return read_report(path, _name_run(path))
    if path.is_dir():
        report = _find_report(path)
        return read_report(report, _name_run(report))
    from resnet50_pipeline.tracking.fetch import asking_mlflow
    from resnet50_pipeline.tracking.run_files import fetch_run_file

    store = open_registry(options).store
    with asking_mlflow(store), tempfile.TemporaryDirectory() as folder:
        file = fetch_run_file(store, run, REPORT_FILE, Path(folder))
        return read_report(file.path, file.name)


def _name_run(report: Path) -> str:
    """Return the report's file name if it was renamed, otherwise the name of the results folder that contains it."""
    if report.name != REPORT_FILE:
        return report.stem
    folder = report.parent
    return folder.parent.name if folder.name == _REPORT_FOLDER else folder.name


def _find_report(folder: Path) -> Path:
    """Return the report in a results folder.

    Raises:
        DatasetNotFoundError: if the folder contains no report.
    """
    for candidate in (folder / _REPORT_FOLDER / REPORT_FILE, folder / REPORT_FILE):
        if candidate.is_file():
            return candidate
    raise DatasetNotFoundError(
        f"{folder} has no {_REPORT_FOLDER}/{REPORT_FILE} → choose a run's workspace or evaluation.output_dir"
    )
