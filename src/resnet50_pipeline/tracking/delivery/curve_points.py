"""Converts events to points on MLflow curves.

| curves | x-axis |
|---|---|
| `train/…`, `speed/images_per_second`, `speed/reader_seconds` | optimizer steps |
| `seconds/…`, `memory/…`, `update_ratio/…` | optimizer steps |
| `epoch/…` (training means), `val/…`, `speed/val_images_per_second` | epochs |
| `system/…` | seconds since the start of the run |

MLflow sorts charts by name, so the speed curves have a separate prefix. As a result, loss and top-1 come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from mlflow.entities import Metric
from pydantic import Field, TypeAdapter

from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, Event, TrainStep

# Values that follow from others, such as the seconds of a batch or an epoch, are omitted. Every point adds to the load
# on MLflow's database.
_STEP_CURVES: tuple[str, ...] = ("loss", "top1", "learning_rate")
_STEP_SPEEDS: tuple[str, ...] = ("images_per_second", "reader_seconds")
_EPOCH_CURVES: tuple[str, ...] = ("loss", "top1")
_EVALUATION_CURVES: tuple[str, ...] = ("loss", "top1", "top5")


class SystemSample(Event):
    """Processor, memory, disk, network and GPU usage at a point in time."""

    event: Literal["system_sample"] = "system_sample"
    values: dict[str, float] = Field(
        description="Measured values, keyed by MLflow's names, for example `cpu_utilization_percentage`."
    )


CurveEvent = Annotated[AnyEvent | SystemSample, Field(discriminator="event")]
_ADAPTER: TypeAdapter[AnyEvent | SystemSample] = TypeAdapter(CurveEvent)


def parse_curve_event(line: bytes) -> AnyEvent | SystemSample:
    """Parse one line of an event file.

    Raises:
        pydantic.ValidationError: if the line is not an event of the current schema version.
    """
    return _ADAPTER.validate_json(line)


def make_points(event: AnyEvent | SystemSample, get_start_ms: Callable[[], int]) -> list[Metric]:
    """Return the curve points for an event. Most kinds of events have no points.

    Args:
        event: training event or system sample.
        get_start_ms: returns the start time of the run in milliseconds since the Unix epoch. It is called only for
            system samples.
    """
    time_ms = round(event.time * 1000)
    match event:
        case TrainStep(step=step):
            values = _select("train", event, _STEP_CURVES) | _select("speed", event, _STEP_SPEEDS) | _monitored(event)
        case EpochEnd(epoch=step):
            values = _select("epoch", event, _EPOCH_CURVES)
            if event.skipped_images:
                values["epoch/skipped_images"] = event.skipped_images
        case EvalEnd(epoch=step):
            values = _select("val", event, _EVALUATION_CURVES)
            if event.balanced_accuracy is not None:
                values["val/balanced_accuracy"] = event.balanced_accuracy
            values["speed/val_images_per_second"] = event.images_per_second
        case SystemSample():
            values = {f"system/{name}": value for name, value in event.values.items()}
            step = max(0, time_ms - get_start_ms()) // 1000
        case _:
            return []
    return [Metric(name, value, time_ms, step) for name, value in values.items()]


def _monitored(event: TrainStep) -> dict[str, float]:
    """Return the monitored values in the event. Skipped steps are included only if there are any."""
    found = {
        "train/gradient_norm": event.gradient_norm,
        "train/loss_scale": event.loss_scale,
        "train/skipped_steps": event.skipped_steps or None,
        "memory/gib": None if event.memory_bytes is None else event.memory_bytes / 2**30,
        "memory/peak_gib": None if event.peak_memory_bytes is None else event.peak_memory_bytes / 2**30,
        **{f"update_ratio/{stage}": ratio for stage, ratio in event.update_ratios.items()},
        # The loading time already has a curve: speed/reader_seconds.
        **{f"seconds/{phase}": time for phase, time in event.phase_seconds.items() if phase != "load"},
    }
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _select(prefix: str, event: AnyEvent, names: tuple[str, ...]) -> dict[str, float]:
    return {f"{prefix}/{name}": float(getattr(event, name)) for name in names}
