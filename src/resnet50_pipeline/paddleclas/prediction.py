"""Predictions of a checkpoint for a whole list: ranks write NumPy files, here they become one table."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet50_pipeline.exceptions import RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.list_files import ListEntries, read_list_file
from resnet50_pipeline.imagenet.shard_set import describe_fidelity, describe_pixels
from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate, with_images
from resnet50_pipeline.paddleclas.launch import build_launch_command
from resnet50_pipeline.paddleclas.progress import showing_evaluation
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.progress import DRAWN

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
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a model's predictions for a list, in the list's order, and how they were made.

    Columns: `path`, `label`, `top5_ids` and `top5_probabilities` (lists of min(5, class_num), best first), `loss`.
    Every image is there exactly once, whatever the number of ranks.

    Args:
        model: what is evaluated.
        list_file: `path label` a line.
        launch: the ranks.
        batch_size_per_rank: images.
        work_parent: folder for files that are gone afterwards.
        image_root: folder that the list's paths begin at; where not given, that of the model's configuration.
        shards: folder of the shard set that the list is packed in; None reads loose files.

    Raises:
        CheckpointError: the model is damaged, or of another network.
        ImageDecodeError: an image cannot be read.
        RankFailedError: a rank failed or hung, or did not predict what it should have.
    """
    config = with_images(
        model.config, batch_size=batch_size_per_rank, list_file=list_file, image_root=image_root, shards=shards
    )
    entries = read_list_file(list_file, class_num=config.Arch.class_num)
    work_parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=work_parent) as folder:
        work_dir = Path(folder)
        used = work_dir / "evaluation_config.yaml"
        write_text(used, config.to_yaml())
        program = ["evaluate", "--config", str(used), "--model", str(model.path.absolute())]
        program += ["--list-file", str(list_file), "--output-dir", str(work_dir)]
        alone = launch.on_this_machine_alone()
        command = build_launch_command(alone, work_dir / "log", program)
        logger.info("evaluating %s on %d images, %d ranks", model.name, len(entries), len(launch.devices), extra=DRAWN)
        with showing_evaluation(len(entries)) as on_event:
            run_ranks(
                command,
                work_dir,
                work_dir / "log",
                launch.hang_timeout_seconds,
                ranks=len(launch.devices),
                log_stays=False,
                on_event=on_event,
            )
        predictions = _merge(sorted(work_dir.glob("predictions.*.npz")), entries)
        summary: dict[str, Any] = json.loads((work_dir / "evaluation_summary.json").read_text(encoding="utf-8"))
    return predictions, summary | {
        "checkpoint": model.name,
        "is_best_checkpoint": model.is_best,
        "arch": config.Arch.name,
        "list": shorten_path(list_file),
        "list_digest": digest_of_list(entries),
        # What was seen in place of the images' own pixels; empty where those were.
        "packed_pixels": describe_pixels(shards),
        "packed_fidelity": describe_fidelity(shards),
    }


def shorten_path(path: Path) -> str:
    """Return a path as it is typed in the project's folder; reports are read on other machines, too."""
    here = Path.cwd()
    return str(path.absolute().relative_to(here)) if path.absolute().is_relative_to(here) else str(path)


def digest_of_list(entries: ListEntries) -> str:
    """Return `sha256:…` over path and label of all images of a list, in whatever order they stand."""
    lines = sorted(f"{path} {label}\n" for path, label in zip(entries.paths, entries.labels, strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _merge(files: list[Path], entries: ListEntries) -> pd.DataFrame:
    parts = [dict(np.load(file, allow_pickle=False)) for file in files]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["index"], kind="stable")
    if not np.array_equal(columns["index"][order], np.arange(len(entries))):
        raise RankFailedError(
            f"the ranks predicted {len(order)} images ({len(np.unique(columns['index']))} different ones) of a list "
            f"of {len(entries)}; this is a bug of the evaluation, please report it"
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
