"""Registers the project's commands with Kedro. `run` and `package` replace Kedro's commands with the same names."""

from __future__ import annotations

import click
from kedro.framework.cli.utils import CONTEXT_SETTINGS

from resnet50_pipeline.commands.adopt import adopt
from resnet50_pipeline.commands.compare import compare
from resnet50_pipeline.commands.data.data_fix import data_fix
from resnet50_pipeline.commands.data.drift import drift
from resnet50_pipeline.commands.data.review import review
from resnet50_pipeline.commands.dvc.data_doctor import data_doctor
from resnet50_pipeline.commands.dvc.data_version import data_version
from resnet50_pipeline.commands.dvc.publish_training import publish_training
from resnet50_pipeline.commands.folds import folds
from resnet50_pipeline.commands.join import join
from resnet50_pipeline.commands.package import package
from resnet50_pipeline.commands.predict import predict
from resnet50_pipeline.commands.preflight import preflight
from resnet50_pipeline.commands.run import run
from resnet50_pipeline.commands.sweep import sweep
from resnet50_pipeline.commands.tracking.champion import champion, promote, rollback
from resnet50_pipeline.commands.tracking.sync_runs import sync_runs
from resnet50_pipeline.commands.tracking.ui import ui
from resnet50_pipeline.commands.unpack import unpack
from resnet50_pipeline.commands.verify_shards import verify_shards


@click.group(name="resnet50-pipeline", context_settings=CONTEXT_SETTINGS)
def cli() -> None:
    """Train, evaluate and register ResNet50. The default command of `resnet50-pipeline` is `run`."""


COMMANDS = (
    run,
    adopt,
    preflight,
    join,
    unpack,
    verify_shards,
    review,
    data_fix,
    drift,
    data_version,
    data_doctor,
    publish_training,
    predict,
    compare,
    promote,
    rollback,
    champion,
    sync_runs,
    ui,
    package,
    sweep,
    folds,
)
for command in COMMANDS:
    cli.add_command(command)
