"""Implements `kedro drift`, which measures how images or predictions differ from a reference."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.predict import CACHE
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    find_dataset_root,
    load_configuration,
)
from resnet50_pipeline.commands.tracking.registry import open_registry
from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.parameters import DatasetParameters, read_group
from resnet50_pipeline.text import align_columns

if TYPE_CHECKING:
    import pandas as pd

    from resnet50_pipeline.expectations.drift import Shift

_MANIFEST, _PREDICTIONS = "manifest.parquet", "predictions.parquet"
_FOLDERS = {_MANIFEST: "02_intermediate", _PREDICTIONS: "07_model_output"}
_ANSWERS_SUFFIX = ".jsonl"


@click.command("drift", params=[*CONFIGURATION_OPTIONS])
@click.option("--reference", required=True, help="Data version or run to compare with.")
@click.option("--current", help="Data version or run to compare; defaults to the environment's workspace.")
@click.option(
    "--model", help="Also compare the features computed by this model: models:/name@alias or models:/name/version."
)
@click.option("--reference-root", help="Folder with the reference images, for --model; defaults to dataset.root.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="JSON file for Great Expectations' result, with one expectation per column.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Exit with code 1 if a distribution has a major shift.")
@click.pass_context
def drift(
    context: click.Context,
    /,
    reference: str,
    current: str | None,
    *,
    model: str | None,
    reference_root: str | None,
    output: Path | None,
    check: bool,
    **options: Any,
) -> None:
    """Compare the distributions of images and predictions with a reference.

    A data version is a folder of results such as data/sample, or a manifest.parquet. A run is a registered version such
    as models:/resnet50-digits@champion, the ID or name of a run in MLflow, a predictions.parquet, or the output of
    `kedro predict --json` in a .jsonl file. Only columns that exist on both sides are compared.
    """
    started = Path.cwd()
    with reporting_errors(context):
        project = enter_configured_project(options)
        configuration = load_configuration(options, project)
        workspace = configuration["globals"]["workspace"]
        from resnet50_pipeline.commands.data.image_features import compute_features, draw_sample, open_images
        from resnet50_pipeline.expectations.drift import compare_features, compare_tables
        from resnet50_pipeline.tracking.fetch import fetch_model

        before = _read(started, reference, options)
        after = _read(started, current or str(project / workspace), options)
        common = [kind for kind in (_MANIFEST, _PREDICTIONS) if kind in before and kind in after]
        shifts = [shift for kind in common for shift in compare_tables(before[kind], after[kind])]
        if model is not None:
            root = find_dataset_root(configuration, project)
            dataset = read_group(configuration["parameters"], "dataset", DatasetParameters)
            fetched = fetch_model(open_registry(options).store, model, Path.cwd() / CACHE)
            samples = [
                draw_sample(tables[(common or list(tables))[0]], open_images(folder, dataset))
                for tables, folder in ((before, started / (reference_root or root)), (after, root))
            ]
            shifts.append(compare_features(*compute_features(fetched.inference_model, samples)))
        if not shifts:
            raise DatasetError(
                f"{reference} contains {' and '.join(before)}, but {current or workspace} contains "
                f"{' and '.join(after)} → compare two data versions, or two sets of predictions"
            )
        click.echo("\n".join(render_table(shifts)))
        if output is not None:
            from resnet50_pipeline.expectations.drift_suite import validate_shifts

            write_text(started / output, json.dumps(validate_shifts(shifts), indent=2) + "\n")
        if check and any(shift.size == "major" for shift in shifts):
            context.exit(1)


def render_table(shifts: list[Shift]) -> list[str]:
    """Return the lines of the table, one per column."""
    table = [["column", "reference", "current", "PSI", "by chance", "KS or TV", "Wasserstein (std)", "shift"]]
    table += [
        [
            one.column,
            _format(one.reference),
            _format(one.current),
            f"{one.psi:.3f}",
            f"{one.bound:.3f}",
            f"{one.distance:.3f}",
            "" if one.wasserstein is None else f"{one.wasserstein:.3f}",
            one.size,
        ]
        for one in shifts
    ]
    return align_columns(table)


def _format(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _read(started: Path, place: str, options: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables to compare, keyed by file name.

    Raises:
        DatasetError: if there is no such table in this location.
        TrackingError: if there is no such run.
    """
    path = started / place
    if path.is_dir():
        files = [file for name, folder in _FOLDERS.items() for file in (path / folder / name, path / name)]
        found = {file.name: _read_table(file) for file in files if file.is_file()}
        if not found:
            raise DatasetNotFoundError(
                f"{place} contains neither {_MANIFEST} nor {_PREDICTIONS} → run data_validation first"
            )
        return found
    if path.suffix == _ANSWERS_SUFFIX and path.is_file():
        return {_PREDICTIONS: _read_answers(path)}
    if path.is_file():
        table = _read_table(path)
        return {_PREDICTIONS if "confidence" in table.columns else _MANIFEST: table}
    from resnet50_pipeline.tracking.fetch import asking_mlflow
    from resnet50_pipeline.tracking.run_files import fetch_run_file

    store = open_registry(options).store
    with asking_mlflow(store), tempfile.TemporaryDirectory() as folder:
        return {_PREDICTIONS: _read_table(fetch_run_file(store, place, _PREDICTIONS, Path(folder)).path)}


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    from resnet50_pipeline.expectations.drift import describe_images, describe_predictions

    try:
        table = pd.read_parquet(path)
        return describe_predictions(table) if "top5_ids" in table.columns else describe_images(table)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are subclasses of these
        raise DatasetError(f"{path} is neither a manifest nor a table of predictions: {error}") from error


def _read_answers(path: Path) -> pd.DataFrame:
    from resnet50_pipeline.expectations.drift import describe_answers

    try:
        return describe_answers([json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DatasetError(f"{path} is not the output of `kedro predict --json`: {error}") from error
