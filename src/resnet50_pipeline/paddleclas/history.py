"""Turns `events.jsonl` into the training history and a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.events import EpochEnd, EvalEnd, Finished, Started, TrainStep, last_event, read_events
from resnet50_pipeline.exceptions import DatasetError, RankFailedError
from resnet50_pipeline.processes.command_line import repeat_command

_COLUMNS = {
    "event": "string",
    "step": "int64",
    "epoch": "int64",
    "time": "float64",
    "loss": "float64",
    "top1": "float64",
    "top5": "float64",
    "learning_rate": "float64",
    "images_per_second": "float64",
}


def training_history(events_path: Path) -> pd.DataFrame:
    """Return one row per `train_step`, `epoch_end`, or `eval_end` event, sorted by step. Missing values are NaN.

    A `resumed` row marks each step where training was resumed. A resumed run repeats the steps after its checkpoint
    set. If two events have the same kind and step, the later one is used.
    """
    events = read_events(events_path)
    rows = [event.model_dump() for event in events if isinstance(event, TrainStep | EpochEnd | EvalEnd)]
    rows += [
        {"event": "resumed", "step": event.first_step, "epoch": event.first_step // event.steps_per_epoch + 1}
        for event in events
        if isinstance(event, Started) and event.first_step
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)
    table = table.drop_duplicates(["event", "step"], keep="last")
    return table.sort_values("step", kind="stable", ignore_index=True)


def training_summary(events_path: Path, arch: str, best_checkpoint: str) -> dict[str, Any]:
    """Return the summary of a finished run.

    If the run stopped before `planned_epochs`, `patience` is the number of epochs without improvement that stopped it.
    `class_weights` contains the smallest and the largest weight. If the run was resumed, `seconds` and
    `images_per_second` cover only the time since the last resume.

    Raises:
        RankFailedError: if the last event is not `finished`.
    """
    events = read_events(events_path)
    started = [event for event in events if isinstance(event, Started)]
    if not started or not isinstance(events[-1], Finished):
        raise RankFailedError(
            f"{events_path}: the last event is not `finished`, so the run stopped early; resume it with\n"
            f"  {repeat_command('--pipelines', 'training', '--params', 'training.resume=true')}"
        )
    first, last = started[-1], events[-1]
    return {
        "arch": arch,
        "epochs": last.epochs,
        "planned_epochs": first.epochs,
        "patience": last.patience,
        "class_weights": None if first.class_weights is None else [min(first.class_weights), max(first.class_weights)],
        "balanced_images_per_epoch": first.images_per_epoch,
        "steps": last.step,
        "best_epoch": last.best_epoch,
        "best_top1": last.best_top1,
        "checkpoint": best_checkpoint,
        "seconds": round(last.seconds, 3),
        "images_per_second": round(last.images_per_second, 3),
        "ranks": first.ranks,
        "device": first.device,
        "paddle_version": first.paddle_version,
        "resumed": any(event.first_step for event in started),
    }


def require_summary_of(events_path: Path, summary_file: Path) -> None:
    """Raise an error if a summary was not written for the training run with these events.

    Raises:
        DatasetError: if the number of steps or the duration differs, or if the run has not finished.
    """
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    last = last_event(events_path)
    if not isinstance(last, Finished) or (last.step, round(last.seconds, 3)) != (summary["steps"], summary["seconds"]):
        raise DatasetError(
            f"{summary_file} was not written for the training run in {events_path.parent}: a run was probably "
            f"interrupted between the two → {repeat_command('--nodes', 'summarize_training')}"
        )
