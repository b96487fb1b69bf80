"""Implements `kedro review`, which serves a page for reviewing images."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.browser import show_page
from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    find_dataset_root,
    load_configuration,
)
from resnet50_pipeline.exceptions import ParameterError, RunInterruptedError
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.parameters import DatasetParameters, read_group
from resnet50_pipeline.processes.command_line import other_command

if TYPE_CHECKING:
    from resnet50_pipeline.review.server import ReviewServer


@click.command("review", params=[*CONFIGURATION_OPTIONS])
@click.argument("findings", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Fix list for the decisions; defaults to FINDINGS with the suffix .reviewed.csv, outside Data Docs.",
)  # fmt: skip
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port of the page; defaults to a free port.")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
@click.pass_context
def review(
    context: click.Context, /, findings: Path, output: Path | None, port: int, *, browser: bool, **options: Any
) -> None:
    """Review the images in FINDINGS on a local page.

    FINDINGS is a fix list (CSV) or the findings.jsonl in Data Docs. For each image, you decide whether to keep, drop,
    relabel or move it. Every decision is saved immediately, and the next review of the same file continues with the
    first undecided image. Stop with Ctrl-C, then apply the decisions with kedro data-fix.
    """
    started, findings = Path.cwd(), findings.absolute()
    output = output.absolute() if output else None
    if output == findings:
        raise click.UsageError("--output must not be FINDINGS, which the command never changes")
    with reporting_errors(context):
        project = enter_configured_project(options)
        configuration = load_configuration(options, project)
        output = choose_output(findings, output, project / configuration["catalog"]["data_docs"]["filepath"])
        dataset = read_group(configuration["parameters"], "dataset", DatasetParameters)
        root = find_dataset_root(configuration, project)
        server, total = open_review(findings, output, root, dataset, port)
        with server:
            show_page(server.url, open_page=browser)
            click.echo("press Ctrl-C to stop", err=True)
            try:
                server.serve_forever()
            except RunInterruptedError as error:
                if error.signal_number != signal.SIGINT:
                    raise
        decided = len(server.decisions)
        click.echo(f"{shorten_path(output)}: {decided:,} of {total:,} images reviewed")
        if decided:
            typed = str(output.relative_to(started) if output.is_relative_to(started) else output)
            click.echo(f"apply the decisions with: {other_command('data-fix', typed)}")


def choose_output(findings: Path, output: Path | None, data_docs: Path) -> Path:
    """Return the file for the decisions.

    Without `output`, this is a file next to the findings or, if they are in Data Docs, next to the Data Docs folder.

    Raises:
        ParameterError: if `output` is in the Data Docs folder, which data_validation replaces in each run.
    """
    data_docs = data_docs.resolve()
    if output is None:
        folder = data_docs.parent if findings.parent.resolve() == data_docs else findings.parent
        return folder / findings.with_suffix(".reviewed.csv").name
    if output.resolve().is_relative_to(data_docs):
        raise ParameterError(
            f"--output {shorten_path(output)} is in the Data Docs folder, which each run replaces → choose another "
            "folder"
        )
    return output


def open_review(
    findings: Path, output: Path, root: Path, dataset: DatasetParameters, port: int = 0
) -> tuple[ReviewServer, int]:
    """Return a server that is already listening, and the number of images to review.

    Args:
        findings: fix list or findings.jsonl.
        output: fix list for the decisions. If it exists, the review continues.
        root: dataset folder.
        dataset: `params:dataset`.
        port: port to listen on, or 0 for a free one.

    Raises:
        DatasetError: if the lists, the findings or the earlier decisions are invalid.
        ParameterError: if the server cannot listen on the port.
    """
    from resnet50_pipeline.imagenet.archives.images import index_archives, read_image
    from resnet50_pipeline.imagenet.fixing import list_images
    from resnet50_pipeline.review.candidates import Decisions, describe_candidates, list_shown_images, read_candidates
    from resnet50_pipeline.review.server import ReviewServer

    images = list_images(root, dataset)
    candidates = read_candidates(findings, images)
    decisions = Decisions(output, candidates, images)
    shown = list_shown_images(candidates)
    archived = index_archives(images.layout.archives)

    def read(index: int) -> bytes:
        return read_image(root, archived, shown[index])

    server = ReviewServer(
        port,
        lambda: describe_candidates(candidates, images, decisions),
        decisions,
        read,
        tiff=dataset.tiff,
    )
    return server, len(candidates)
