"""`kedro predict PATH…`: names and probabilities for images and folders of images, with the champion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import CONFIGURATION_OPTIONS, log_plain_lines_unless_in_a_terminal
from resnet50_pipeline.commands.registry import open_registry
from resnet50_pipeline.exceptions import DatasetNotFoundError, ExportError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CACHE = Path(".cache") / "models"


@click.command("predict", params=[*CONFIGURATION_OPTIONS])
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--model", help="models:/name@alias or models:/name/version; the champion where not given.")
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Classes of each image.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an image and line, for machines.")
@click.pass_context
def predict(
    context: click.Context, /, paths: tuple[str, ...], model: str | None, top_k: int, *, as_json: bool, **options: Any
) -> None:
    """Print what the images at PATHS show; a folder stands for all images below it.

    An image that cannot be read or decoded is named, and the exit code is then 1; the others are classified.
    """
    log_plain_lines_unless_in_a_terminal()
    started = Path.cwd()
    with ending_clearly(context):
        from resnet50_pipeline.tracking.fetch import fetch_model

        images = list(find_images(started, paths))
        registry = open_registry(options)
        reference = model or f"models:/{registry.model_name}@champion"
        fetched = fetch_model(registry.store, reference, Path.cwd() / CACHE)
        if not as_json:
            click.echo(f"{fetched.name} version {fetched.version}", err=True)
        failed = 0
        for answer in classify(fetched.inference_model, images, top_k):
            path = Path(answer["path"])
            shown = path.relative_to(started) if path.is_relative_to(started) else path
            failed += answer["status"] != 200
            if as_json:
                answer |= {"model": f"models:/{fetched.name}/{fetched.version}"}
                click.echo(json.dumps(answer, ensure_ascii=False))
            elif answer["error"]:
                click.echo(f"{shown}: {click.style('error', fg='red')}: {answer['error']}")
            else:
                click.echo(f"{shown}: {describe(answer['predictions'])}")
        if failed:
            click.echo(f"{failed} of {len(images)} images could not be classified", err=True)
            context.exit(1)


def find_images(start: Path, paths: Iterable[str]) -> Iterator[Path]:
    """Yield absolute paths: files as they are named, folders' images by path; what is not there too, for its error.

    Raises:
        DatasetNotFoundError: a folder has no image.
    """
    for text in paths:
        path = start / text
        if not path.is_dir():
            yield path
            continue
        below = sorted(
            Path(folder) / name
            for folder, _, names in os.walk(path)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES
        )
        if not below:
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DatasetNotFoundError(f"{text}: there is no image below this folder (their names end in {known})")
        yield from below


def classify(inference_model: Path, images: list[Path], top_k: int) -> Iterator[dict[str, Any]]:
    """Yield an answer an image, in their order, from a process of its own: this one never imports Paddle.

    Raises:
        ExportError: the process failed; its last words are the message.
    """
    package_home = Path(__file__).parents[2]
    command = [sys.executable, "-m", "resnet50_pipeline.serving", str(inference_model), "--top-k", str(top_k)]
    environment = {**os.environ, "PYTHONPATH": str(package_home), "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore"}
    with (
        tempfile.TemporaryFile("w+") as words,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        threading.Thread(target=_ask, args=(process, images), daemon=True).start()
        answered = 0
        for line in process.stdout:
            answered += 1
            yield json.loads(line)
        process.wait()
        if process.returncode != 0 or answered != len(images):
            words.seek(0)
            last = words.read().strip().splitlines()[-5:]
            raise ExportError("the model could not classify the images:\n" + "\n".join(last))


def describe(predictions: Iterable[dict[str, Any]]) -> str:
    """Return the classes of an image, the best first: `three 98.1 %, five 1.2 %`."""
    return ", ".join(
        f"{one['name'] or one['synset']} {one['probability']:.1%}".replace("%", " %") for one in predictions
    )


def _ask(process: subprocess.Popen[str], images: list[Path]) -> None:
    try:
        with process.stdin as questions:  # type: ignore[union-attr] # it is a pipe
            questions.writelines(json.dumps(str(image)) + "\n" for image in images)
    except (BrokenPipeError, ValueError):
        pass  # the process ended early, and its exit code says so; or nobody reads the answers any more
