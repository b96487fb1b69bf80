"""Implements `kedro verify-shards`, which checks packed images against their digests."""

from __future__ import annotations

from pathlib import Path

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import log_to_stderr
from resnet50_pipeline.text import format_bytes, pluralize


@click.command("verify-shards")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, help="Number of reader processes; 0 means one per core."
)
@click.pass_context
def verify_shards(context: click.Context, /, folder: Path, workers: int) -> None:
    """Check packed images against their digests.

    The command reads every shard in FOLDER. The exit code is 1 if any image differs.
    """
    from resnet50_pipeline.imagenet.shards.verify import verify_shard_set

    log_to_stderr()
    with reporting_errors(context):
        found = verify_shard_set(folder, workers)
    click.echo(
        f"{folder}: {pluralize(found.images, 'image')} in {pluralize(found.shards, 'shard')} "
        f"({format_bytes(found.bytes)}), all intact"
    )
