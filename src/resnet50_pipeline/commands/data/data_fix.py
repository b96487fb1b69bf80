"""Implements `kedro data-fix`, which changes the lists of a dataset with a patch."""

from __future__ import annotations

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
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.parameters import DatasetParameters, read_group
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.processes.locks import holding
from resnet50_pipeline.text import pluralize

if TYPE_CHECKING:
    from resnet50_pipeline.imagenet.lists.patches import PatchContent


@click.command("data-fix", params=[*CONFIGURATION_OPTIONS])
@click.argument("csv", required=False, type=click.Path(path_type=Path))
@click.option("--reason", default="", help="Reason for the change, recorded in the patch.")
@click.option("--undo", is_flag=True, help="Remove the last patch instead.")
@click.pass_context
def data_fix(context: click.Context, /, csv: Path | None, reason: str, *, undo: bool, **options: Any) -> None:
    """Apply the fix list CSV to the dataset's lists: drop, relabel or move images.

    The changes are saved as a patch in dataset.patches, and every run applies all patches to your lists. Your own files
    are never changed. Without CSV, the command lists the patches.
    """
    if csv is not None:
        csv = csv.absolute()
    if undo and csv is not None:
        raise click.UsageError("pass either a fix list or --undo")
    with reporting_errors(context):
        project = enter_configured_project(options)
        configuration = load_configuration(options, project)
        dataset = read_group(configuration["parameters"], "dataset", DatasetParameters)
        if dataset.patches is None:
            raise ParameterError(
                "dataset.patches is null, so patches are not applied → remove the parameter, or set it to a folder"
            )
        folder = project / dataset.patches
        if undo:
            _undo(folder, project)
        elif csv is None:
            _show_patches(folder)
        else:
            root = find_dataset_root(configuration, project)
            _apply(csv, root, dataset.model_copy(update={"patches": folder}), reason, project)


def _apply(csv: Path, root: Path, dataset: DatasetParameters, reason: str, project: Path) -> None:
    from resnet50_pipeline.git import read_git_user
    from resnet50_pipeline.imagenet.fixing import list_images, make_patch
    from resnet50_pipeline.imagenet.lists.fixes import read_fixes
    from resnet50_pipeline.imagenet.lists.patches import write_patch
    from resnet50_pipeline.processes.user import user_name

    fixes = read_fixes(csv)
    by = read_git_user(project) or user_name()
    # Each patch builds on the previous ones, so only one process may write a patch at a time. Lock the project folder,
    # because the patch folder may not exist yet.
    with holding(project, wait=True):
        content, warnings = make_patch(list_images(root, dataset), fixes, source=csv.name, by=by, reason=reason)
        for warning in warnings:
            click.echo(f"{click.style('note', fg='yellow')}: {warning}", err=True)
        if not content.rows:
            click.echo(f"nothing to change: {_describe(content)}")
            return
        assert dataset.patches is not None  # noqa: S101 - checked by the caller, for mypy
        path = write_patch(dataset.patches, content)
    click.echo(f"{shorten_path(path)}: {_describe(content)}")
    click.echo(f"train on the changed lists with: {other_command('run')}")


def _undo(folder: Path, project: Path) -> None:
    """Remove the last patch.

    Raises:
        ParameterError: if there is no patch.
    """
    from resnet50_pipeline.imagenet.lists.patches import read_patches

    with holding(project, wait=True):
        patches = read_patches(folder)
        if not patches:
            raise ParameterError(f"{shorten_path(folder)} has no patches → there is nothing to undo")
        last = patches[-1]
        last.file.unlink()
    click.echo(f"removed {shorten_path(last.file)}: {_describe(last.content)}")


def _show_patches(folder: Path) -> None:
    from resnet50_pipeline.imagenet.lists.patches import read_patches

    patches = read_patches(folder)
    if not patches:
        click.echo(f"{shorten_path(folder)} has no patches")
    for patch in patches:
        reason = f", {patch.content.reason}" if patch.content.reason else ""
        click.echo(f"{patch.id}  {patch.content.at}  {patch.content.by}{reason}: {_describe(patch.content)}")


def _describe(content: PatchContent) -> str:
    words = {"drop": "dropped", "relabel": "relabeled", "move": "moved"}
    counts = content.counts
    parts = [f"{pluralize(counts[action], 'image')} {word}" for action, word in words.items() if action in counts]
    if content.kept:
        parts.append(f"{pluralize(content.kept, 'image')} kept")
    return ", ".join(parts) or "no rows"
