"""Implements `kedro data-version`, which writes a dataset's digest to a file that DVC tracks instead of the images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    find_dataset_root,
    load_configuration,
)
from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ParameterError
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters, read_group
from resnet50_pipeline.processes.command_line import other_command

if TYPE_CHECKING:
    import pandas as pd

# The file is next to the manifest. It is not in the catalog, because no pipeline reads or writes it.
VERSION_FILE = "data_version.json"
_COMPARED = ["split", "path", "label", "bytes", "sha256", "status"]


@click.command("data-version", params=[*CONFIGURATION_OPTIONS])
@click.option("--check", is_flag=True, help="Do not write the file. Exit with code 1 if the images have changed.")
@click.pass_context
def data_version(context: click.Context, /, *, check: bool, **options: Any) -> None:
    """Write the dataset's version file for DVC.

    DVC tracks this file instead of the images. Only images that have changed are read. The command also lists
    differences from the manifest written by data_validation.
    """
    with reporting_errors(context):
        project = enter_configured_project(options)
        configuration = load_configuration(options, project)
        root = shorten_path(find_dataset_root(configuration, project))
        manifest = _scan(configuration["parameters"], root)
        version = describe_version(manifest)
        former = project / configuration["catalog"]["manifest"]["filepath"]
        click.echo(
            f"{root}: {version['train_images']} train and {version['val_images']} val images, {version['data_digest']}"
        )
        _show_changes(former, manifest)
        if not _is_written(version, former.with_name(VERSION_FILE), write=not check) and check:
            click.echo(f"the dataset differs from the version file → run {other_command('data-version')}", err=True)
            context.exit(1)


def describe_version(manifest: pd.DataFrame) -> dict[str, str | int]:
    """Return a dataset's digests and its number of images and bytes.

    The result depends on the dataset's content, but not on its path. MLflow shows `data_digest` for the run's dataset.
    """
    from resnet50_pipeline.imagenet.scan.digest import compute_data_digest, compute_manifest_digest
    from resnet50_pipeline.imagenet.scan.manifest import select_listed

    return {
        "data_digest": compute_data_digest(manifest),
        "manifest_digest": compute_manifest_digest(manifest),
        "train_images": len(select_listed(manifest, "train")),
        "val_images": len(select_listed(manifest, "val")),
        "bytes": int(manifest["bytes"].sum()),
    }


def _scan(parameters: dict[str, Any], root: Path) -> pd.DataFrame:
    """Return the manifest that data_validation would write. Results for unchanged images come from the scan cache."""
    from resnet50_pipeline.pipelines.data_validation.nodes import scan_dataset
    from resnet50_pipeline.preflight.dataset import require_dataset

    validation = read_group(parameters, "data_validation", DataValidationParameters)
    if validation.scan.level != "full":
        raise ParameterError(
            f"data_validation.scan.level is {validation.scan.level}, which does not compute the image digests that a "
            "version needs → set data_validation.scan.level: full"
        )
    dataset = read_group(parameters, "dataset", DatasetParameters)
    require_dataset(root, dataset)
    manifest, _ = scan_dataset(root, dataset, validation)
    return manifest


def _show_changes(former: Path, manifest: pd.DataFrame) -> None:
    import pandas as pd

    from resnet50_pipeline.imagenet.scan.manifest_changes import find_changes

    if not former.is_file():
        return
    try:
        before = pd.read_parquet(former, columns=_COMPARED)
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these
        command = other_command("run", "--pipelines", "data_validation")
        click.echo(f"  cannot compare with {former}: {error} → {command}", err=True)
        return
    for line in find_changes(before, manifest).lines(MAX_PROBLEMS_SHOWN):
        click.echo(f"  {line}")


def _is_written(version: dict[str, str | int], path: Path, *, write: bool) -> bool:
    """Return whether the file at `path` contains the version, after writing it if `write` is true."""
    from resnet50_pipeline.files import write_text

    text = json.dumps(version, indent=2) + "\n"
    is_written = path.is_file() and path.read_text(encoding="utf-8") == text
    if write and not is_written:
        write_text(path, text)
    return is_written
