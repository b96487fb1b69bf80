"""Writes the margins of the training images as a table."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import MARGINS
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.training_dir import checkpoint_paths, margins_path

logger = logging.getLogger(__name__)


def write_margins(config: TrainingConfig) -> Path | None:
    """Write `margins.parquet` from the newest checkpoint set of a finished training run, and return its path.

    If the set has no margins, delete the table of an earlier part of the run and return None, because that table does
    not cover the whole run.

    The table has one row per line of the train list, in the same order: `path`, `label`, `margin` (mean margin over all
    forward passes; NaN if the image had no passes, for example because the last batch of each epoch was dropped) and
    `passes`. The margin is the area under the margin (AUM) of Pleiss et al. 2020.
    """
    output_dir = Path(config.Global.output_dir)
    target, sets = margins_path(output_dir), checkpoint_paths(output_dir)
    if not sets or not (sets[-1] / MARGINS).is_file():
        target.unlink(missing_ok=True)
        if config.Global.record_margins:
            logger.warning(
                "%s is not written: %s was saved without training.record_margins, and no step was trained since. Train "
                "again to record the margins",
                target,
                sets[-1] if sets else "no checkpoint set",
            )
        return None
    train = read_list_file(Path(config.DataLoader.Train.dataset.cls_label_path), config.Arch.class_num)
    arrays = load_file(sets[-1] / MARGINS)
    passes = arrays["passes"].astype(np.int64)
    margins = np.divide(arrays["sums"], passes, out=np.full(len(passes), np.nan), where=passes > 0)
    table = pd.DataFrame({"path": list(train.paths), "label": train.labels, "margin": margins, "passes": passes})
    with replacing_file(target) as temporary:
        table.to_parquet(temporary, index=False)
    return target
