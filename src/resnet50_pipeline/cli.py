"""The project's commands, as Kedro finds them: `run` and `package`, which take the place of its own, and others."""

from __future__ import annotations

import click
from kedro.framework.cli.utils import CONTEXT_SETTINGS

from resnet50_pipeline.commands.champion import champion, promote, rollback
from resnet50_pipeline.commands.data_doctor import data_doctor
from resnet50_pipeline.commands.data_version import data_version
from resnet50_pipeline.commands.join import join
from resnet50_pipeline.commands.package import package
from resnet50_pipeline.commands.predict import predict
from resnet50_pipeline.commands.preflight import preflight
from resnet50_pipeline.commands.run import run
from resnet50_pipeline.commands.sweep import sweep
from resnet50_pipeline.commands.sync_runs import sync_runs
from resnet50_pipeline.commands.unpack import unpack
from resnet50_pipeline.commands.verify_shards import verify_shards


@click.group(name="resnet50-pipeline", context_settings=CONTEXT_SETTINGS)
def cli() -> None:
    """Commands of the project resnet50-pipeline. An installed package's, called without one, is `run`."""


COMMANDS = (
    run,
    preflight,
    join,
    unpack,
    verify_shards,
    data_version,
    data_doctor,
    predict,
    promote,
    rollback,
    champion,
    sync_runs,
    package,
    sweep,
)
for command in COMMANDS:
    cli.add_command(command)
