"""Implements `kedro publish-training`, which copies a finished training run to the outs of its DVC stage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import click
from kedro.config import AbstractConfigLoader

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    load_configuration,
)
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.training_dir import RUN_DIR, best_checkpoint

_TRAINING_DIR = "training_dir"
_PUBLISHED = (_TRAINING_DIR, "training_history", "training_summary")


@click.command("publish-training", params=[*CONFIGURATION_OPTIONS])
@click.argument("run_dir")
@click.pass_context
def publish_training(context: click.Context, /, *, run_dir: str, **options: Any) -> None:
    """Copy a finished training run for DVC.

    Copies the results from RUN_DIR to the environment's workspace. Because DVC may delete files in the outs of a stage,
    training takes place in RUN_DIR, which is not an out. The files in RUN_DIR are kept until the next training run
    there has finished.
    """
    started = Path.cwd()
    with reporting_errors(context):
        project = enter_configured_project(options)
        # Paths on the command line are relative to the folder where the command was started.
        run_dir = str(shorten_path(Path(os.path.normpath(started / run_dir))))
        published = _paths_of(load_configuration(options, project))
        options["params"] = {**options["params"], RUN_DIR: run_dir}
        sources = _paths_of(load_configuration(options, project))
        best_checkpoint(project / sources[_TRAINING_DIR], run_dir)
        for name in _PUBLISHED:
            publish(project / sources[name], project / published[name])
        click.echo(f"{sources[_TRAINING_DIR]}: copied to {published[_TRAINING_DIR]}")


def publish(source: Path, path: Path) -> None:
    """Atomically replace the file or folder `path` with a copy of `source`.

    The copy must not share inodes with the source: DVC may link it to its cache, and a resumed training run appends to
    the source's files.
    """
    from resnet50_pipeline.files import replace_directory, replacing_file, staging_directory

    if source.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        with staging_directory(path.parent) as staged:
            shutil.copytree(source, staged, dirs_exist_ok=True)
            replace_directory(staged, path)
    else:
        with replacing_file(path) as temporary:
            shutil.copyfile(source, temporary)


def _paths_of(configuration: AbstractConfigLoader) -> dict[str, Path]:
    catalog = configuration["catalog"]
    return {name: Path(catalog[name]["filepath"]) for name in _PUBLISHED}
