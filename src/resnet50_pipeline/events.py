"""Defines, reads and writes the events of a training run.

Rank 0 appends events to `events.jsonl`, the source of the progress view, the curves and the reports. Each line is a
JSON object such as `{"event": "train_step", "schema_version": 1, "time": 1764000000.0, …}`, written in a single call
and flushed, so only the last line may be incomplete (`tailing.py`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.tailing import read_complete_lines

SCHEMA_VERSION: Final = 1
_TAIL_BYTES = 1 << 14


class Event(FrozenModel):
    """Base class of all events. Each subclass adds its kind as `event`."""

    # Write NaN and Infinity literally, to make a diverged loss visible in the file.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    schema_version: Literal[1] = SCHEMA_VERSION
    time: float = Field(default_factory=time.time, description="Seconds since the Unix epoch.")


class Started(Event):
    """All ranks have started and are about to run their first step."""

    event: Literal["started"] = "started"
    ranks: int
    device: str
    epochs: int
    steps_per_epoch: int
    train_images: int
    val_images: int
    first_step: int = Field(description="Number of steps finished before this process started. 0 for a new run.")
    paddle_version: str
    images_per_epoch: int | None = Field(
        default=None, description="Number of images in a class-balanced epoch. null: each epoch uses the train list."
    )
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="Weight of each class in the loss. null: no weights."
    )


class TrainStep(Event):
    """Training metrics, averaged over all ranks and over the steps since the previous `train_step` event."""

    event: Literal["train_step"] = "train_step"
    step: int = Field(
        description="Number of optimizer steps completed since training started, including steps from earlier "
        "processes. The first step is 1."
    )
    epoch: int = Field(description="Number of the epoch, 1-based.")
    loss: float
    top1: float = Field(description="Top-1 accuracy on augmented training images, 0..1.")
    learning_rate: float
    images_per_second: float = Field(description="Total throughput of all ranks.")
    reader_seconds: float = Field(description="Mean time per step spent waiting for a batch.")
    batch_seconds: float = Field(description="Mean duration of a step, including the time spent waiting for a batch.")
    gradient_norm: float | None = Field(
        default=None,
        description="L2 norm of all gradients of the last step, without the loss scale and before clipping. null: the "
        "step was skipped.",
    )
    update_ratios: dict[str, float] = Field(
        default_factory=dict,
        description="Norm of the last update divided by the norm of the weights, for each stage of the network "
        "(`training.update_ratios`).",
    )
    phase_seconds: dict[str, float] = Field(
        default_factory=dict,
        description="Mean time per step spent in each phase: load, forward, backward, reduce, optimizer and "
        "checkpoint. Phases without time are missing. On devices other than CPUs, only load and checkpoint are means, "
        "and the other phases are from the last step.",
    )
    rank_seconds: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="Mean time per step that each rank spent loading a batch (load), computing (compute) and "
        "waiting for slower ranks (wait). Empty with a single rank.",
    )
    loss_scale: float | None = Field(
        default=None, description="Dynamic loss scale of the next step (float16). null: no dynamic scale."
    )
    skipped_steps: int | None = Field(
        default=None,
        description="Number of steps since training started whose gradients overflowed (float16). null: no loss scale.",
    )
    memory_bytes: int | None = Field(
        default=None,
        description="Memory of the rank that uses the most. On a GPU: tensors in device memory. On a CPU: resident "
        "memory. null: unknown.",
    )
    peak_memory_bytes: int | None = Field(
        default=None, description="Highest value of `memory_bytes` since the ranks started, measured continuously."
    )


class EpochEnd(Event):
    """Training metrics, averaged over all ranks and over a complete epoch."""

    event: Literal["epoch_end"] = "epoch_end"
    epoch: int
    step: int
    loss: float
    top1: float
    images_per_second: float = Field(
        description="Total throughput of all ranks, excluding the time for evaluating and saving."
    )
    seconds: float
    skipped_images: int = Field(
        default=0, description="Number of training images that could not be read and were replaced by other images."
    )


class EvalProgress(Event):
    """Progress of an evaluation. This event is written every few seconds, so short evaluations have no such event."""

    event: Literal["eval_progress"] = "eval_progress"
    images: int = Field(
        description="Number of images that all ranks together have evaluated so far, estimated from rank 0's progress."
    )
    total: int
    images_per_second: float


class EvalEnd(Event):
    """Result of an evaluation on the val list. Each image is evaluated exactly once."""

    event: Literal["eval_end"] = "eval_end"
    epoch: int
    step: int
    images: int
    loss: float
    top1: float
    top5: float
    images_per_second: float
    is_best: bool
    balanced_accuracy: float | None = Field(
        default=None, description="Mean accuracy of the classes, 0..1, if this accuracy determines the best checkpoint."
    )


class CheckpointSaved(Event):
    """A checkpoint set has been saved after `epoch` epochs and `step` steps."""

    event: Literal["checkpoint_saved"] = "checkpoint_saved"
    epoch: int
    step: int
    path: str = Field(description="Path of the set, relative to the folder of events.jsonl.")
    seconds: float = Field(description="Time from the end of the last step until the set was on disk.")
    stall_seconds: float = Field(default=0.0, description="Part of `seconds` during which training was paused.")
    is_best: bool


class WarningRaised(Event):
    """A warning for the user. The run continues."""

    event: Literal["warning"] = "warning"
    message: str


class ReplicasDiffer(Event):
    """The weights or the optimizer state of the ranks are not identical. The run ends."""

    event: Literal["replicas_differ"] = "replicas_differ"
    step: int
    verified_step: int = Field(description="Last step after which all ranks were identical.")
    ranks: tuple[int, ...] = Field(description="Ranks that differ from the majority. Empty if there is no majority.")
    tensors: tuple[str, ...] = Field(description="Names of the tensors that differ.")
    digests: tuple[int, ...] = Field(description="Digest of the state of each rank.")


class Restarted(Event):
    """The ranks failed and are started again, from the newest checkpoint set if there is one."""

    event: Literal["restarted"] = "restarted"
    restart: int = Field(description="Number of the restart within this command, from 1.")
    reason: str = Field(description="First line of the error that ended the ranks.")


class Finished(Event):
    """Last event of a successful run."""

    event: Literal["finished"] = "finished"
    epochs: int = Field(description="Number of epochs that were trained.")
    step: int
    best_epoch: int
    best_top1: float
    patience: int | None = Field(
        default=None,
        description="Number of epochs without a new best top-1 after which the run ended early. null: all epochs were "
        "trained.",
    )
    seconds: float = Field(description="Time since this process's `started` event.")
    images_per_second: float = Field(
        description="Total throughput of all ranks over the full run, excluding the time for evaluating and saving."
    )


AnyEvent = Annotated[
    Started
    | TrainStep
    | EpochEnd
    | EvalProgress
    | EvalEnd
    | CheckpointSaved
    | WarningRaised
    | ReplicasDiffer
    | Restarted
    | Finished,
    Field(discriminator="event"),
]
_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class EventWriter:
    """Appends events to a file. Only rank 0 creates a writer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_last_line(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: Event) -> None:
        """Append an event as a line, and flush it to the operating system."""
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file. The writer cannot be used afterward."""
        self._file.close()


def parse_event(line: str | bytes) -> AnyEvent:
    """Parse one line as an event.

    Raises:
        pydantic.ValidationError: if the line is not an event of the current schema version.
    """
    return _ADAPTER.validate_json(line)


def read_events(path: Path) -> list[AnyEvent]:
    """Return the events in all complete lines of a file, or an empty list if the file does not exist.

    Raises:
        pydantic.ValidationError: if a line is not an event of this schema version.
    """
    return [parse_event(line) for line in read_complete_lines(path)]


def last_event(path: Path) -> AnyEvent | None:
    """Return the last complete event in a file, or None if there is none. Reads only the end of the file."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size, length = file.seek(0, os.SEEK_END), _TAIL_BYTES
        while True:
            start = max(0, size - length)
            file.seek(start)
            lines = file.read(size - start).split(b"\n")[:-1]  # text after the last newline is incomplete
            # The first line read may be cut off. The last line is complete if there is another line before it.
            if lines and (len(lines) > 1 or start == 0):
                return parse_event(lines[-1])
            if start == 0:
                return None
            length *= 2


def _drop_torn_last_line(path: Path) -> None:
    """Remove an incomplete last line left behind by a killed writer, so that the next event starts on a new line."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
