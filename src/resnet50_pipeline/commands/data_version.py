"""`kedro data-version`: names the content of a data set that stays where it is, by one digest that DVC can watch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ParameterError
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters, as_group

if TYPE_CHECKING:
    import pandas as pd

# Beside the manifest: no pipeline reads or writes it, so the catalog does not know it.
VERSION_FILE = "data_version.json"
_COMPARED = ["split", "path", "label", "bytes", "sha256", "status"]


@click.command("data-version", params=[*CONFIGURATION_OPTIONS])
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 where the images are of another version.")
@click.pass_context
def data_version(context: click.Context, /, *, check: bool, **options: Any) -> None:
    """Look which images have changed, read those, and write the version of the data set for DVC to watch.

    Names the images that differ from the manifest that data_validation made.
    """
    with ending_clearly(context):
        project = enter_configured_project(options)
        log_plain_lines_unless_in_a_terminal()
        configuration = load_configuration(options, project)
        dataset = as_group(configuration["parameters"].get("dataset"), "dataset", DatasetParameters)
        manifest = _scan(configuration["parameters"], dataset)
        version = describe_version(manifest)
        former = project / configuration["catalog"]["manifest"]["filepath"]
        click.echo(
            f"{dataset.root}: {version['train_images']} train and {version['val_images']} val images, "
            f"{version['data_digest']}"
        )
        _show_changes(former, manifest)
        if not _is_written(version, former.with_name(VERSION_FILE), write=not check) and check:
            click.echo("not the version that DVC knows → kedro data-version writes it down", err=True)
            context.exit(1)


def describe_version(manifest: pd.DataFrame) -> dict[str, str | int]:
    """Return what names a data set: its digests, and how many images and bytes they stand for.

    The same for the same content wherever it lies. `data_digest` is what MLflow shows as the dataset of a run.
    """
    from resnet50_pipeline.imagenet.digest import compute_data_digest, compute_manifest_digest
    from resnet50_pipeline.imagenet.manifest import select_listed

    return {
        "data_digest": compute_data_digest(manifest),
        "manifest_digest": compute_manifest_digest(manifest),
        "train_images": len(select_listed(manifest, "train")),
        "val_images": len(select_listed(manifest, "val")),
        "bytes": int(manifest["bytes"].sum()),
    }


def _scan(parameters: dict[str, Any], dataset: DatasetParameters) -> pd.DataFrame:
    """Return the manifest as data_validation would make it; what that has read is not read again."""
    from resnet50_pipeline.pipelines.data_validation.nodes import scan_dataset
    from resnet50_pipeline.preflight.dataset import require_dataset

    validation = as_group(parameters.get("data_validation"), "data_validation", DataValidationParameters)
    if validation.scan.level != "full":
        raise ParameterError(
            f"data_validation.scan.level is {validation.scan.level}, which takes no digests of images, and there is no "
            "version of the data without them → set it to full"
        )
    require_dataset(parameters)
    manifest, _ = scan_dataset(dataset.root, dataset, validation)
    return manifest


def _show_changes(former: Path, manifest: pd.DataFrame) -> None:
    import pandas as pd

    from resnet50_pipeline.imagenet.manifest_changes import find_changes

    if not former.is_file():
        return
    try:
        before = pd.read_parquet(former, columns=_COMPARED)
    except (OSError, ValueError) as error:  # of pyarrow, too
        click.echo(
            f"  what changed cannot be named: {former}: {error} → kedro run --pipelines data_validation", err=True
        )
        return
    for line in find_changes(before, manifest).lines(MAX_PROBLEMS_SHOWN):
        click.echo(f"  {line}")


def _is_written(version: dict[str, str | int], path: Path, *, write: bool) -> bool:
    """Return whether a file says what the version is; write it where it does not and that is asked for."""
    from resnet50_pipeline.files import write_text

    text = json.dumps(version, indent=2) + "\n"
    is_written = path.is_file() and path.read_text(encoding="utf-8") == text
    if write and not is_written:
        write_text(path, text)
    return is_written
