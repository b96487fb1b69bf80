"""Predictions of a checkpoint for a whole list: ranks write NumPy files, here they become one table."""

from __future__ import annotations

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
from resnet50_pipeline.paddleclas.launch import build_launch_command
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.training_config import TrainingConfig, read_training_config
from resnet50_pipeline.training_dir import best_checkpoint, config_path

logger = logging.getLogger(__name__)


def predict_list(
    training_dir: Path, list_file: Path, launch: LaunchParameters, batch_size_per_rank: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the best checkpoint's predictions for a list, in the list's order, and how they were made.

    Columns: `path`, `label`, `top5_ids` and `top5_probabilities` (lists of min(5, class_num), best first), `loss`.
    Every image is there exactly once, whatever the number of ranks.

    Raises:
        CheckpointError: the training is not finished, or the checkpoint is damaged.
        ImageDecodeError: an image cannot be read.
        RankFailedError: a rank failed or hung, or did not predict what it should have.
    """
    checkpoint = best_checkpoint(training_dir)
    config = read_training_config(config_path(training_dir))
    entries = read_list_file(list_file, class_num=config.Arch.class_num)
    with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=training_dir.parent) as folder:
        work_dir = Path(folder)
        used = work_dir / "evaluation_config.yaml"
        write_text(used, _with_batch_size(config, batch_size_per_rank).to_yaml())
        program = ["evaluate", "--config", str(used), "--checkpoint", str(checkpoint)]
        program += ["--list-file", str(list_file), "--output-dir", str(work_dir)]
        alone = launch.on_this_machine_alone()
        command = build_launch_command(alone, work_dir / "log", program)
        logger.info("evaluating %s on %d images, %d ranks", checkpoint, len(entries), len(launch.devices))
        run_ranks(command, work_dir, work_dir / "log", launch.hang_timeout_seconds, ranks=len(launch.devices))
        predictions = _merge(sorted(work_dir.glob("predictions.*.npz")), entries)
        summary: dict[str, Any] = json.loads((work_dir / "evaluation_summary.json").read_text(encoding="utf-8"))
    return predictions, summary | {"checkpoint": str(checkpoint.relative_to(training_dir))}


def _with_batch_size(config: TrainingConfig, batch_size: int) -> TrainingConfig:
    split = config.DataLoader.Eval
    split = split.model_copy(update={"sampler": split.sampler.model_copy(update={"batch_size": batch_size})})
    return config.model_copy(update={"DataLoader": config.DataLoader.model_copy(update={"Eval": split})})


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
