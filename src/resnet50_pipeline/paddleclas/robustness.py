"""Measures how often a model is wrong on corrupted images."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imaging.corruptions.names import SEVERITIES
from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate, with_images
from resnet50_pipeline.paddleclas.prediction import run_on_images
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.text import format_duration, pluralize

logger = logging.getLogger(__name__)


def measure_robustness(
    model: ModelToEvaluate,
    list_file: Path,
    launch: LaunchParameters,
    *,
    corruptions: Sequence[str],
    batch_size_per_rank: int,
    work_parent: Path,
    image_root: Path | None = None,
    shards: Path | None = None,
    clean_seconds: float,
) -> pd.DataFrame:
    """Return the number of wrong predictions for each corruption and severity.

    Columns: `corruption`, `severity` (1 to 5), `images`, `errors`. The counts do not depend on the number of ranks.

    Args:
        model: model to evaluate.
        list_file: list file with one `path label` pair per line.
        launch: launch settings.
        corruptions: names in `imaging.corruptions.names.CORRUPTIONS`.
        batch_size_per_rank: images per batch.
        work_parent: folder for temporary files.
        image_root: folder that the list's paths are relative to. Defaults to the folder in the model's configuration.
        shards: folder of the shard set that contains the list's images. If None, the ranks read loose files.
        clean_seconds: duration of the evaluation of the same images without corruption, for the estimate in the log.

    Raises:
        CheckpointError: if the model is damaged, or its weights belong to a different network.
        ImageDecodeError: if an image cannot be read.
        RankFailedError: if a rank failed or hung.
    """
    config = with_images(
        model.config, batch_size=batch_size_per_rank, list_file=list_file, image_root=image_root, shards=shards
    )
    images = len(read_list_file(list_file, class_num=config.Arch.class_num))
    passes = len(corruptions) * len(SEVERITIES)
    logger.info(
        "measuring robustness: %d passes over %s (%s, %d severities each); at the speed of the evaluation, they take "
        "%s, and corrupting the images takes additional time",
        *(passes, pluralize(images, "image"), pluralize(len(corruptions), "corruption"), len(SEVERITIES)),
        format_duration(passes * clean_seconds),
    )
    program = ["measure-robustness", "--corruptions", *corruptions]
    with run_on_images(
        program, config, model.path, list_file, launch, work_parent=work_parent, images=passes * images
    ) as folder:
        result = json.loads((folder / "robustness.json").read_text(encoding="utf-8"))
    logger.info("measured robustness in %s", format_duration(result["seconds"]))
    return pd.DataFrame(result["counts"]).assign(images=result["images"])
