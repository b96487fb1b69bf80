"""Writes the latest values of a training run in the text format of Prometheus.

node_exporter's textfile collector serves all `*.prom` files in a folder. The format is described in
https://prometheus.io/docs/instrumenting/exposition_formats/:

    # HELP resnet50_training_loss Mean loss per image since the previous report.
    # TYPE resnet50_training_loss gauge
    resnet50_training_loss{session="2026-11-30T08.00.00.000Z"} 1.25
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from resnet50_pipeline.events import AnyEvent, CheckpointSaved, EvalEnd, Finished, Started, TrainStep
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.logs.context import log_context

logger = logging.getLogger(__name__)

_PREFIX = "resnet50_"
_HELP = {
    "training_running": "1 while the ranks are running, otherwise 0.",
    "training_ranks": "Number of ranks.",
    "training_epochs": "Number of epochs in the whole run.",
    "training_steps": "Number of optimizer steps in the whole run.",
    "training_event_timestamp_seconds": "Time of the latest event, in seconds since the Unix epoch.",
    "training_step": "Number of finished optimizer steps.",
    "training_epoch": "Number of the current epoch, from 1.",
    "training_loss": "Mean loss per image since the previous report.",
    "training_top1_ratio": "Top-1 accuracy on augmented training images, 0 to 1.",
    "training_learning_rate": "Learning rate of the latest step.",
    "training_images_per_second": "Throughput of all ranks together.",
    "training_step_seconds": "Mean duration of a step.",
    "training_phase_seconds": "Mean time per step spent in a phase.",
    "training_gradient_norm": "L2 norm of all gradients of the latest step.",
    "training_update_ratio": "Norm of the latest update divided by the norm of the weights, by stage.",
    "training_loss_scale": "Loss scale of the next step (float16).",
    "training_skipped_steps": "Number of steps whose gradients overflowed (float16).",
    "training_memory_bytes": "Memory of the rank that uses the most.",
    "training_memory_peak_bytes": "Highest memory use of a rank.",
    "validation_loss": "Mean loss per image in the latest evaluation.",
    "validation_top1_ratio": "Top-1 accuracy of the latest evaluation, 0 to 1.",
    "validation_top5_ratio": "Top-5 accuracy of the latest evaluation, 0 to 1.",
    "checkpoint_step": "Step of the latest checkpoint set.",
    "checkpoint_seconds": "Time to write the latest checkpoint set.",
    "checkpoint_stall_seconds": "Time for which the latest checkpoint set paused training.",
}
# Metrics with a label: the name of the label.
_LABELS = {"training_phase_seconds": "phase", "training_update_ratio": "stage"}


class MetricsFile:
    """The latest values of a run, in a file that is replaced atomically.

    A `train_step` event rewrites the file only if `seconds_between_writes` have passed since the last write. Other
    events always rewrite it.
    """

    def __init__(self, path: Path, seconds_between_writes: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Check that the file can be written. The first event writes it.

        Commands that do not train keep the values of the last training run.

        Raises:
            ParameterError: if the file cannot be written.
        """
        self._path, self._interval, self._clock = path, seconds_between_writes, clock
        self._values: dict[str, float | Mapping[str, float]] = {}
        self._next = -math.inf
        self._has_failed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise ParameterError(
                f"logs.metrics_file: cannot write {path}: {error.strerror} → choose a file that you can write, or null"
            ) from error

    def update(self, event: AnyEvent) -> None:
        """Record an event's values, and write the file if a write is due."""
        if isinstance(event, Started):
            self._values = {}
        self._values |= {"training_running": 0 if isinstance(event, Finished) else 1, **_values_of(event)}
        if not isinstance(event, TrainStep) or self._clock() >= self._next:
            self._write()

    def finish(self) -> None:
        """Record that no rank is running, if there were events."""
        if self._values:
            self._values["training_running"] = 0
            self._write()

    def render(self) -> str:
        """Return the content of the file."""
        lines = []
        for name, value in self._values.items():
            lines += [f"# HELP {_PREFIX}{name} {_HELP[name]}", f"# TYPE {_PREFIX}{name} gauge"]
            samples = value.items() if isinstance(value, Mapping) else [("", value)]
            for label, sample in samples:
                labels = {_LABELS[name]: label} if label else {}
                lines.append(f"{_PREFIX}{name}{_format_labels(labels)} {_format_value(sample)}")
        return "".join(f"{line}\n" for line in lines)

    def _write(self) -> None:
        self._next = self._clock() + self._interval
        try:
            write_text(self._path, self.render())
        except OSError as error:
            if not self._has_failed:
                logger.warning("logs.metrics_file: cannot write %s: %s; training continues", self._path, error.strerror)
            self._has_failed = True


def _values_of(event: AnyEvent) -> dict[str, float | Mapping[str, float]]:
    values: dict[str, float | Mapping[str, float] | None] = {"training_event_timestamp_seconds": event.time}
    match event:
        case Started():
            values |= {
                "training_ranks": event.ranks,
                "training_epochs": event.epochs,
                "training_steps": event.epochs * event.steps_per_epoch,
                "training_step": event.first_step,
            }
        case TrainStep():
            values |= {
                "training_step": event.step,
                "training_epoch": event.epoch,
                "training_loss": event.loss,
                "training_top1_ratio": event.top1,
                "training_learning_rate": event.learning_rate,
                "training_images_per_second": event.images_per_second,
                "training_step_seconds": event.batch_seconds,
                "training_phase_seconds": event.phase_seconds or None,
                "training_gradient_norm": event.gradient_norm,
                "training_update_ratio": event.update_ratios or None,
                "training_loss_scale": event.loss_scale,
                "training_skipped_steps": event.skipped_steps,
                "training_memory_bytes": event.memory_bytes,
                "training_memory_peak_bytes": event.peak_memory_bytes,
            }
        case EvalEnd():
            values |= {
                "validation_loss": event.loss,
                "validation_top1_ratio": event.top1,
                "validation_top5_ratio": event.top5,
            }
        case CheckpointSaved():
            values |= {
                "checkpoint_step": event.step,
                "checkpoint_seconds": event.seconds,
                "checkpoint_stall_seconds": event.stall_seconds,
            }
    return {name: value for name, value in values.items() if value is not None}


def _format_labels(labels: Mapping[str, str]) -> str:
    if log_context.session:
        labels = {"session": log_context.session, **labels}
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _format_value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
