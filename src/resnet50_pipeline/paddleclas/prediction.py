"""Classifies all images in a list. The ranks write NumPy files, and this module joins them into a DataFrame."""

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
from resnet50_pipeline.imagenet.lists.files import ListEntries, read_list_file
from resnet50_pipeline.imagenet.shards.shard_set import describe_fidelity, describe_pixels
from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate, with_images
from resnet50_pipeline.paddleclas.launch.command import build_launch_command
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.paddleclas.progress import showing_evaluation
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
    """Return a model's predictions for a list, in list order, and a summary of the evaluation.

    Columns: `path`, `label`, `top5_ids` and `top5_probabilities` (lists of min(5, class_num), best first), `loss`.
    Every image occurs exactly once, regardless of the number of ranks.

    Args:
        model: model to evaluate.
        list_file: list file with one `path label` pair per line.
        launch: launch settings.
        batch_size_per_rank: images per batch.
        work_parent: folder for temporary files.
        image_root: folder that the list's paths are relative to. Defaults to the folder in the model's configuration.
        shards: folder of the shard set that contains the list's images. If None, the ranks read loose files.

    Raises:
        CheckpointError: if the model is damaged, or its weights belong to a different network.
        ImageDecodeError: if an image cannot be read.
        RankFailedError: if a rank failed or hung, or the predictions are incomplete.
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
        # How shards changed the pixels; empty if the evaluation used the original pixels.
        "packed_pixels": describe_pixels(shards),
        "packed_fidelity": describe_fidelity(shards),
    }


def shorten_path(path: Path) -> str:
    """Return `path` relative to the working folder if it is inside that folder, so that reports are portable."""
    here = Path.cwd()
    return str(path.absolute().relative_to(here)) if path.absolute().is_relative_to(here) else str(path)


def digest_of_list(entries: ListEntries) -> str:
    """Return the digest of a list's paths and labels as `sha256:…`. The order of the lines does not affect it."""
    lines = sorted(f"{path} {label}\n" for path, label in zip(entries.paths, entries.labels, strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _merge(files: list[Path], entries: ListEntries) -> pd.DataFrame:
    parts = [dict(np.load(file, allow_pickle=False)) for file in files]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["index"], kind="stable")
    if not np.array_equal(columns["index"][order], np.arange(len(entries))):
        raise RankFailedError(
            f"the ranks classified {len(order)} images ({len(np.unique(columns['index']))} unique), but the list has "
            f"{len(entries)}; this is a bug in the evaluation code, please report it"
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
