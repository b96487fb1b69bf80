"""`kedro unpack`: ImageNet's archives become the folders that training reads."""

from __future__ import annotations

from pathlib import Path

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import log_plain_lines_unless_in_a_terminal
from resnet50_pipeline.imagenet.list_files import Split


@click.command("unpack")
@click.option("--train", type=click.Path(path_type=Path), help="ILSVRC2012_img_train.tar, or a folder of class tars.")
@click.option("--val", type=click.Path(path_type=Path), help="ILSVRC2012_img_val.tar.")
@click.option("--root", type=click.Path(path_type=Path), required=True, help="Dataset folder to fill; made if missing.")
@click.option("--verify", is_flag=True, help="First hold the archives against the MD5 that image-net.org gives.")
@click.pass_context
def unpack(context: click.Context, /, train: Path | None, val: Path | None, root: Path, *, verify: bool) -> None:
    """Unpack ImageNet's archives to train/<synset>/ and val/; started again, it goes on where it was."""
    from resnet50_pipeline.imagenet.published_archives import require_published
    from resnet50_pipeline.imagenet.unpack import unpack_archives

    log_plain_lines_unless_in_a_terminal()
    archives: dict[Split, Path] = {}
    if train is not None:
        archives["train"] = train
    if val is not None:
        archives["val"] = val
    if not archives:
        raise click.UsageError("name at least one of --train and --val")
    with ending_clearly(context):
        if verify:
            require_published(archives)
        done = unpack_archives(root, archives)
    click.echo(
        f"{root}: {done.images} images in {done.folders} folders unpacked, "
        f"{done.folders_before} folders were there already"
    )
