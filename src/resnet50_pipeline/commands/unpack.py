"""Implements `kedro unpack`, which unpacks ImageNet's archives into a dataset folder."""

from __future__ import annotations

from pathlib import Path

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import log_to_stderr
from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.text import pluralize


@click.command("unpack")
@click.option("--train", type=click.Path(path_type=Path), help="ILSVRC2012_img_train.tar, or a folder of class tars.")
@click.option("--val", type=click.Path(path_type=Path), help="ILSVRC2012_img_val.tar.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    required=True,
    help="Dataset folder to fill. The folder is created if it does not exist.",
)
@click.option(
    "--verify", is_flag=True, help="First check the archives against the MD5 digests published on image-net.org."
)
@click.pass_context
def unpack(context: click.Context, /, train: Path | None, val: Path | None, root: Path, *, verify: bool) -> None:
    """Unpack ImageNet's archives to train/ and val/.

    If the command is interrupted, run it again to continue after the last complete folder.
    """
    from resnet50_pipeline.imagenet.archives.published_md5 import require_published_md5
    from resnet50_pipeline.imagenet.archives.unpack import unpack_archives

    log_to_stderr()
    archives: dict[Split, Path] = {}
    if train is not None:
        archives["train"] = train
    if val is not None:
        archives["val"] = val
    if not archives:
        raise click.UsageError("pass --train, --val or both")
    with reporting_errors(context):
        for split, path in archives.items():
            if not path.exists():
                raise DatasetNotFoundError(f"{path}: the archive is missing → correct --{split}")
        if verify:
            require_published_md5(archives)
        done = unpack_archives(root, archives)
    skipped = f"; skipped {pluralize(done.existing_folders, 'complete folder')}" if done.existing_folders else ""
    click.echo(f"{root}: unpacked {pluralize(done.images, 'image')} in {pluralize(done.folders, 'folder')}{skipped}")
