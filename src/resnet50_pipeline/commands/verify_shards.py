"""`kedro verify-shards`: whether packed images are still the bytes that were packed."""

from __future__ import annotations

from pathlib import Path

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import log_plain_lines_unless_in_a_terminal


@click.command("verify-shards")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes that read; 0 means one a core.")
@click.pass_context
def verify_shards(context: click.Context, /, folder: Path, workers: int) -> None:
    """Read every shard in FOLDER and compare each image with its digest; exit code 1 where one differs."""
    from resnet50_pipeline.imagenet.shard_verify import verify_shard_set

    log_plain_lines_unless_in_a_terminal()
    with ending_clearly(context):
        found = verify_shard_set(folder, workers)
    click.echo(f"{folder}: {found.images} images in {found.shards} shards ({found.bytes / 1e9:.1f} GB) are as packed")
