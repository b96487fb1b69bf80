"""Converts events to points on MLflow curves.

| curves | x-axis |
|---|---|
| `train/…` | optimizer steps |
| `epoch/…` (training means), `val/…` | epochs |
| `system/…` | seconds since the start of the run |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from mlflow.entities import Metric
from pydantic import Field, TypeAdapter

from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, Event, TrainStep

# `batch_seconds` is omitted because it duplicates `images_per_second`, and every point adds to the load on MLflow's
# database.
_STEP_CURVES: tuple[str, ...] = ("loss", "top1", "learning_rate", "images_per_second", "reader_seconds")
_EPOCH_CURVES: tuple[str, ...] = ("loss", "top1", "images_per_second", "seconds", "skipped_images")
_EVALUATION_CURVES: tuple[str, ...] = ("loss", "top1", "top5", "images_per_second")


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
    """Return the curve points for an event. Most kinds of events have none.

    Args:
        event: training event or system sample.
        get_start_ms: returns the start time of the run in milliseconds since the Unix epoch. It is only called for
            system samples.
    """
    time_ms = round(event.time * 1000)
    match event:
        case TrainStep(step=step):
            prefix, values = "train", _select(event, _STEP_CURVES)
        case EpochEnd(epoch=step):
            prefix, values = "epoch", _select(event, _EPOCH_CURVES)
        case EvalEnd(epoch=step):
            prefix, values = "val", _select(event, _EVALUATION_CURVES)
            if event.balanced_accuracy is not None:
                values["balanced_accuracy"] = event.balanced_accuracy
        case SystemSample(values=values):
            prefix, step = "system", max(0, time_ms - get_start_ms()) // 1000
        case _:
            return []
    return [Metric(f"{prefix}/{name}", value, time_ms, step) for name, value in values.items()]


def _select(event: AnyEvent, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(getattr(event, name)) for name in names}
