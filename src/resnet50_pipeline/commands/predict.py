"""Implements `kedro predict`, which classifies images and folders of images with a registered model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import CONFIGURATION_OPTIONS
from resnet50_pipeline.commands.tracking.registry import open_registry
from resnet50_pipeline.exceptions import DatasetNotFoundError, ExportError
from resnet50_pipeline.frozen_model import refuse_url
from resnet50_pipeline.text import pluralize

CACHE = Path(".cache") / "models"


@click.command("predict", params=[*CONFIGURATION_OPTIONS])
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--model", help="models:/name@alias or models:/name/version. Defaults to the champion.")
@click.option(
    "--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Number of classes to print per image."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image, each on its own line.")
@click.pass_context
def predict(
    context: click.Context, /, paths: tuple[str, ...], model: str | None, top_k: int, *, as_json: bool, **options: Any
) -> None:
    """Classify the images at PATHS, including all images inside folders.

    If an image cannot be read or decoded, its line shows the error, and the exit code is 1. The other images are still
    classified.
    """
    started = Path.cwd()
    with reporting_errors(context, result_in_stdout=True):
        from resnet50_pipeline.tracking.fetch import fetch_model

        registry = open_registry(options)
        found = find_images(started, paths)
        for note in found.notes:
            click.echo(show_text(note), err=True)
        reference = model or f"models:/{registry.model_name}@champion"
        fetched = fetch_model(registry.store, reference, Path.cwd() / CACHE)
        if not as_json:
            click.echo(f"{fetched.name} version {fetched.version}", err=True)
        failed = 0
        for answer in classify(fetched.inference_model, found.images, top_k):
            path = Path(answer["path"])
            shown = path.relative_to(started) if path.is_relative_to(started) else path
            failed += answer["status"] != 200
            if as_json:
                answer |= {"model": f"models:/{fetched.name}/{fetched.version}"}
                click.echo(_as_json(answer))
            elif answer["error"]:
                click.echo(show_text(f"{shown}: {click.style('error', fg='red')}: {answer['error']}"))
            else:
                click.echo(show_text(f"{shown}: {describe(answer['predictions'])}"))
        if failed:
            click.echo(f"{failed} of {pluralize(len(found.images), 'image')} could not be classified", err=True)
            context.exit(1)


@dataclass(frozen=True)
class FoundImages:
    """The images to classify.

    Attributes:
        images: absolute paths, in the order of the arguments; images from the same folder are sorted.
        notes: one sentence for each folder that also contains other files.
    """

    images: list[Path]
    notes: list[str]


def find_images(start: Path, paths: Iterable[str]) -> FoundImages:
    """Find the given files, and the images in the given folders, which are recognized by their suffix.

    Missing files are included, so that the output shows an error for each of them.

    Raises:
        DatasetNotFoundError: if a folder contains no image.
    """
    from resnet50_pipeline.imagenet.lists.generation import IMAGE_SUFFIXES, is_image_name

    images: list[Path] = []
    notes: list[str] = []
    for text in paths:
        try:
            refuse_url(text)
        except ValueError as error:
            raise DatasetNotFoundError(str(error)) from error
        path = start / text
        if not path.is_dir():
            images.append(path)
            continue
        files = sorted(Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        below = [file for file in files if is_image_name(file.name)]
        others = _count_suffixes(file.name for file in files if not is_image_name(file.name))
        if not below:
            raise DatasetNotFoundError(
                f"{text}: this folder contains no images{f', only {others}' if others else ''} → choose a folder that "
                f"contains files with one of the suffixes {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        if others:
            notes.append(f"{text}: skipped files whose names do not end in an image suffix: {others}")
        images += below
    return FoundImages(images, notes)


def show_text(text: str) -> str:
    r"""Return text for the terminal, with invalid UTF-8 in file names escaped, as in `\xe9`."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _as_json(answer: dict[str, Any]) -> str:
    """Return one line of JSON. Paths that are not UTF-8 keep the escapes of `os.fsdecode`."""
    line = json.dumps(answer, ensure_ascii=False)
    return line if show_text(line) == line else json.dumps(answer)


def _count_suffixes(names: Iterable[str]) -> str:
    """Return the number of names with each suffix: `3 .txt, 1 hidden file, 1 without suffix`."""
    counts = Counter(
        "hidden" if name.startswith(".") else Path(name).suffix.lower() or "without suffix" for name in names
    )
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def classify(
    inference_model: Path, images: list[Path], top_k: int, *, with_features: bool = False
) -> Iterator[dict[str, Any]]:
    """Classify images in a separate process, because this process must not import Paddle.

    Yields one result per image, in the given order. `with_features` adds the pooled features.

    Raises:
        ExportError: if the process fails; the message ends with the process's output.
    """
    package_home = Path(__file__).parents[2]
    command = [sys.executable, "-m", "resnet50_pipeline.serving", str(inference_model), "--top-k", str(top_k)]
    command += ["--features"] * with_features
    environment = {**os.environ, "PYTHONPATH": str(package_home), "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore"}
    with (
        tempfile.TemporaryDirectory() as home,
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            command,
            env={**environment, "HOME": home},  # importing paddle creates ~/.cache/paddle
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        # A separate thread writes the paths: a single thread would deadlock if both pipes filled up.
        threading.Thread(target=_send_paths, args=(process, images), daemon=True).start()
        answered = 0
        for line in process.stdout:
            answered += 1
            yield json.loads(line)
        process.wait()
        if process.returncode != 0 or answered != len(images):
            stderr.seek(0)
            last = stderr.read().strip().splitlines()[-5:]
            raise ExportError("classification failed:\n" + "\n".join(last))


def describe(predictions: Iterable[dict[str, Any]]) -> str:
    """Return the most probable classes of an image: `three 98.1%, five 1.2%`."""
    return ", ".join(f"{one['name'] or one['synset']} {one['probability']:.1%}" for one in predictions)


def _send_paths(process: subprocess.Popen[str], images: list[Path]) -> None:
    try:
        with process.stdin as stdin:  # type: ignore[union-attr] # it is a pipe
            stdin.writelines(json.dumps(str(image)) + "\n" for image in images)
    except (BrokenPipeError, ValueError):
        pass  # either the process failed, as its exit code shows, or the caller stopped reading
