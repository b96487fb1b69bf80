"""Turns `events.jsonl` into the training history and a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.events import EpochEnd, EvalEnd, Finished, Restarted, Started, TrainStep, last_event, read_events
from resnet50_pipeline.exceptions import DatasetError, RankFailedError
from resnet50_pipeline.processes.command_line import repeat_command

# Columns for the values that a `train_step` event has for each stage, and for each phase.
_PREFIXES = {"update_ratios": "update_ratio", "phase_seconds": "seconds"}
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
    **dict.fromkeys(("gradient_norm", "loss_scale", "skipped_steps", "memory_bytes", "peak_memory_bytes"), "float64"),
}


def training_history(events_path: Path) -> pd.DataFrame:
    """Return one row per `train_step`, `epoch_end` or `eval_end` event, sorted by step. Missing values are NaN.

    A `resumed` row marks each step at which training resumed. A resumed run repeats the steps after its checkpoint set,
    so the rows of the steps that it repeats are dropped. If a resumed run has more or fewer steps per epoch, for
    example because the number of ranks has changed, earlier steps are converted to its numbering.

    Columns such as `update_ratio_stage1` and `seconds_forward` exist only if an event has the value.
    """
    rows: list[dict[str, Any]] = []
    steps_per_epoch = None
    for event in read_events(events_path):
        if isinstance(event, TrainStep | EpochEnd | EvalEnd):
            rows.append(_to_row(event))
        elif isinstance(event, Started):
            scale = event.steps_per_epoch / (steps_per_epoch or event.steps_per_epoch)
            for row in rows:
                row["step"] = round(row["step"] * scale)
            rows = [row for row in rows if row["event"] == "resumed" or row["step"] <= event.first_step]
            steps_per_epoch = event.steps_per_epoch
            if event.first_step:
                epoch = event.first_step // steps_per_epoch + 1
                rows.append({"event": "resumed", "step": event.first_step, "epoch": epoch})
    prefixes = tuple(f"{prefix}_" for prefix in _PREFIXES.values())
    found = dict.fromkeys(name for row in rows for name in row if name.startswith(prefixes))
    types = {**_COLUMNS, **dict.fromkeys(found, "float64")}
    table = pd.DataFrame(rows, columns=list(types)).astype(types)
    table = table.drop_duplicates(["event", "step"], keep="last")
    return table.sort_values("step", kind="stable", ignore_index=True)


def _to_row(event: TrainStep | EpochEnd | EvalEnd) -> dict[str, Any]:
    row = event.model_dump()
    for name, prefix in _PREFIXES.items():
        row |= {f"{prefix}_{key}": value for key, value in row.pop(name, {}).items()}
    return row


def training_summary(events_path: Path, arch: str, best_checkpoint: str) -> dict[str, Any]:
    """Return the summary of a finished run.

    If the run stopped before `planned_epochs`, `patience` is the number of epochs without improvement after which the
    run stopped. `class_weights` contains the smallest and the largest weight. If the run was resumed, `seconds` and
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
        "restarts": sum(isinstance(event, Restarted) for event in events),
    }


def require_summary_of(events_path: Path, summary_file: Path) -> None:
    """Check that a summary belongs to the training run with these events.

    Raises:
        DatasetError: if the number of steps or the duration differs, or if the run has not finished.
    """
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    last = last_event(events_path)
    if not isinstance(last, Finished) or (last.step, round(last.seconds, 3)) != (summary["steps"], summary["seconds"]):
        raise DatasetError(
            f"{summary_file} does not belong to the training run in {events_path.parent}; a run was probably "
            f"interrupted before writing its summary → {repeat_command('--nodes', 'summarize_training')}"
        )
