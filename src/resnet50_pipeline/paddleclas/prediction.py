"""Classifies all images in a list. The ranks write NumPy files, and this module joins them into a DataFrame."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet50_pipeline.exceptions import RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.lists.files import ListEntries, read_list_file
from resnet50_pipeline.imagenet.shards.shard_set import describe_fidelity, describe_pixels
from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate, with_images
from resnet50_pipeline.paddleclas.launch.command import build_launch_command
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.paddleclas.progress import showing_evaluation
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.progress import DRAWN
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)


def predict_list(
    model: ModelToEvaluate,
    list_file: Path,
    launch: LaunchParameters,
    *,
    batch_size_per_rank: int,
    work_parent: Path,
    image_root: Path | None = None,
    shards: Path | None = None,
    grad_cam_images: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a model's predictions for a list, in list order, and a summary of the evaluation.

    Columns: `path`, `label`, `top5_ids` and `top5_probabilities` (lists of min(5, class_num), best first), `loss`.
    Every image occurs exactly once, regardless of the number of ranks. With heat maps, the table also has the column
    `grad_cam`: the square map of an image as a list of numbers in 0..1, row by row, or None.

    Args:
        model: model to evaluate.
        list_file: list file with one `path label` pair per line.
        launch: launch settings.
        batch_size_per_rank: images per batch.
        work_parent: folder for temporary files.
        image_root: folder that the list's paths are relative to. Defaults to the folder in the model's configuration.
        shards: folder of the shard set that contains the list's images. If None, the ranks read loose files.
        grad_cam_images: number of images with a heat map (`trainer/explanation/grad_cam.py`).

    Raises:
        CheckpointError: if the model is damaged, or its weights belong to a different network.
        ExportError: if heat maps are requested for an exported model.
        ImageDecodeError: if an image cannot be read.
        RankFailedError: if a rank failed or hung, or the predictions are incomplete.
    """
    config = with_images(
        model.config, batch_size=batch_size_per_rank, list_file=list_file, image_root=image_root, shards=shards
    )
    entries = read_list_file(list_file, class_num=config.Arch.class_num)
    logger.info(
        "evaluating %s on %d images with %s",
        *(model.name, len(entries), pluralize(len(launch.devices), "rank")),
        extra=DRAWN,
    )
    program = ["evaluate", "--grad-cam-images", str(grad_cam_images)]
    with run_on_images(
        program, config, model.path, list_file, launch, work_parent=work_parent, images=len(entries)
    ) as work_dir:
        predictions = _merge(sorted(work_dir.glob("predictions.*.npz")), entries)
        if grad_cam_images:
            maps = _read_maps(sorted(work_dir.glob("grad_cam.*.npz")), len(predictions))
            predictions = predictions.assign(grad_cam=pd.Series(maps, dtype=object))
        summary: dict[str, Any] = json.loads((work_dir / "evaluation_summary.json").read_text(encoding="utf-8"))
    return predictions, summary | {
        "checkpoint": model.name,
        "is_best_checkpoint": model.is_best,
        "arch": config.Arch.name,
        "list": shorten_path(list_file),
        "list_digest": digest_of_list(entries),
        # How packing changed the pixels. Empty if the evaluation used the original pixels.
        "packed_pixels": describe_pixels(shards),
        "packed_fidelity": describe_fidelity(shards),
    }


@contextlib.contextmanager
def run_on_images(
    program: Sequence[str],
    config: TrainingConfig,
    model: Path,
    list_file: Path,
    launch: LaunchParameters,
    *,
    work_parent: Path,
    images: int,
) -> Iterator[Path]:
    """Run a program of the ranks on the images in a list, and yield the temporary folder with the results.

    Args:
        program: subcommand of `trainer/__main__.py`, with its own options.
        config: configuration from `with_images`.
        model: path of the model.
        list_file: list of the images.
        launch: launch settings.
        work_parent: folder in which the temporary folder is created.
        images: number of images that the ranks classify, for the progress display.

    Raises:
        RankFailedError: if a rank failed or hung. Errors of the ranks are raised as described in `run_ranks`.
    """
    work_parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=work_parent) as folder:
        work_dir = Path(folder)
        used = work_dir / "evaluation_config.yaml"
        write_text(used, config.to_yaml())
        places = ["--config", str(used), "--model", str(model.absolute())]
        places += ["--list-file", str(list_file), "--output-dir", str(work_dir)]
        command = build_launch_command(launch.on_this_machine_alone(), work_dir / "log", [*program, *places])
        with showing_evaluation(images) as on_event:
            run_ranks(
                command,
                work_dir,
                work_dir / "log",
                launch.hang_timeout_seconds,
                ranks=len(launch.devices),
                log_stays=False,
                on_event=on_event,
            )
        yield work_dir


def shorten_path(path: Path) -> str:
    """Return `path` relative to the working folder if it is inside that folder, so that reports are portable."""
    here = Path.cwd()
    return str(path.absolute().relative_to(here)) if path.absolute().is_relative_to(here) else str(path)


def digest_of_list(entries: ListEntries) -> str:
    """Return the digest of a list's paths and labels as `sha256:…`, regardless of line order."""
    lines = sorted(f"{path} {label}\n" for path, label in zip(entries.paths, entries.labels, strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _merge(files: list[Path], entries: ListEntries) -> pd.DataFrame:
    parts = [dict(np.load(file, allow_pickle=False)) for file in files]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["index"], kind="stable")
    if not np.array_equal(columns["index"][order], np.arange(len(entries))):
        raise RankFailedError(
            f"the ranks classified {len(order)} images ({len(np.unique(columns['index']))} unique), but the list has "
            f"{len(entries)}; please report this bug in the evaluation code"
        )
    return pd.DataFrame(
        {
            "path": list(entries.paths),
            "label": columns["label"][order],
            "top5_ids": list(columns["top_ids"][order]),
            "top5_probabilities": list(columns["top_probabilities"][order]),
            "loss": columns["loss"][order],
        }
    )


def _read_maps(files: list[Path], images: int) -> list[list[float] | None]:
    maps: list[list[float] | None] = [None] * images
    for file in files:
        arrays = np.load(file, allow_pickle=False)
        for row, values in zip(arrays["index"], arrays["maps"], strict=True):
            maps[row] = values.reshape(-1).round(4).tolist()
    return maps
