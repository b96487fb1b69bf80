"""Counts the wrong predictions on corrupted copies of all images in a list, on any number of ranks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imaging.corruptions.names import SEVERITIES
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.evaluated_model import load_evaluated_model
from resnet50_pipeline.trainer.evaluation import EvaluationReporter, predict, progress_writer
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.robustness.corrupted import CorruptedBatches, CorruptedDataset, Variant


def measure_robustness(
    config: TrainingConfig,
    ranks: Ranks,
    heartbeat: Heartbeat,
    *,
    model: Path,
    list_file: Path,
    corruptions: Sequence[str],
) -> None:
    """Classify a corrupted copy of each image for each corruption and severity.

    Rank 0 writes `robustness.json` to the folder of its heartbeat. The file contains the number of images, the time of
    the slowest rank in seconds, and the number of wrong predictions for each corruption and severity. Rank 0 also
    reports its progress to `events.jsonl`.

    Args:
        config: configuration of the run.
        ranks: connection to the other ranks.
        heartbeat: heartbeat of this rank. Its folder is the output folder.
        model: path of the model (see `load_evaluated_model`).
        list_file: list of the images.
        corruptions: names in `CORRUPTIONS`.

    Raises:
        CheckpointError: if the model is damaged or from another network.
        ExportError: if the exported model cannot be loaded.
        ImageDecodeError: if an image cannot be read.
    """
    evaluated = load_evaluated_model(config, model)
    entries = read_list_file(list_file, class_num=config.Arch.class_num)
    split = config.DataLoader.Eval
    variants = [Variant(corruption, severity) for corruption in corruptions for severity in SEVERITIES]
    loader = Loader(
        CorruptedDataset(entries, split, config.Global.seed, variants),
        CorruptedBatches(len(entries), split.sampler.batch_size, ranks, len(variants)),
        split,
    )
    with contextlib.ExitStack() as closing:
        emit = progress_writer(heartbeat.folder, ranks, closing)
        reporter = EvaluationReporter(emit, len(entries) * len(variants), ranks)
        found = predict(evaluated.network, loader, 1, heartbeat, reporter=reporter)
    # The loader keeps the order of the keys: all variants of an image are consecutive.
    is_wrong = (found.top_ids[:, 0] != found.label).reshape(-1, len(variants))
    errors = ranks.sum(is_wrong.sum(axis=0).astype(float).tolist())
    seconds = ranks.gather([found.seconds]).max()
    if ranks.is_first:
        counts = [
            {"corruption": one.corruption, "severity": one.severity, "errors": int(wrong)}
            for one, wrong in zip(variants, errors, strict=True)
        ]
        result = {"images": len(entries), "seconds": float(seconds), "counts": counts}
        write_text(heartbeat.folder / "robustness.json", json.dumps(result) + "\n")
