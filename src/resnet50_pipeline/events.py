"""The events that rank 0 appends to `events.jsonl` and everybody else reads: what happened in a training run.

One JSON object a line, `{"event": "train_step", "schema_version": 1, "time": 1764000000.0, …}`. A line is
written with one `write` and flushed, so a reader sees whole lines or a last one without a newline, which
`read_events` leaves for the next call.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA_VERSION: Final = 1
_TAIL_BYTES = 1 << 14


class Event(BaseModel):
    """What every event carries: its kind, the schema's version, seconds since the Unix epoch."""

    # `inf_nan_mode`: a diverged loss must reach the file as what it was.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    schema_version: Literal[1] = SCHEMA_VERSION
    time: float = Field(default_factory=time.time, description="Seconds since the Unix epoch.")


class Started(Event):
    """The ranks are up and about to run the first step (of this process)."""

    event: Literal["started"] = "started"
    ranks: int
    device: str
    epochs: int
    steps_per_epoch: int
    train_images: int
    val_images: int
    first_step: int = Field(description="0 for a fresh run; the number of finished steps for a resumed one.")
    paddle_version: str


class TrainStep(Event):
    """Means over the steps since the last such event, over all ranks."""

    event: Literal["train_step"] = "train_step"
    step: int = Field(description="Finished optimizer steps since the very beginning, 1-based.")
    epoch: int = Field(description="1-based.")
    loss: float
    top1: float = Field(description="Fraction, 0..1, on augmented training images.")
    learning_rate: float
    images_per_second: float = Field(description="All ranks together.")
    reader_seconds: float = Field(description="Mean wait for a batch, a step.")
    batch_seconds: float = Field(description="Mean duration of a step, waiting included.")


class EpochEnd(Event):
    """Means over one whole epoch, over all ranks."""

    event: Literal["epoch_end"] = "epoch_end"
    epoch: int
    step: int
    loss: float
    top1: float
    images_per_second: float = Field(description="All ranks together, evaluation and saving not counted.")
    seconds: float
    skipped_images: int = Field(
        default=0, description="Train images that could not be read, and for which others stood in."
    )


class EvalProgress(Event):
    """How far an evaluation is; only of one that takes more than a few seconds."""

    event: Literal["eval_progress"] = "eval_progress"
    images: int = Field(description="Evaluated by all ranks, by what the first one has done.")
    total: int
    images_per_second: float


class EvalEnd(Event):
    """An evaluation of the whole val list, every image exactly once."""

    event: Literal["eval_end"] = "eval_end"
    epoch: int
    step: int
    images: int
    loss: float
    top1: float
    top5: float
    images_per_second: float
    is_best: bool


class CheckpointSaved(Event):
    """A checkpoint set was renamed into place; `epoch` finished epochs and `step` finished steps are in it."""

    event: Literal["checkpoint_saved"] = "checkpoint_saved"
    epoch: int
    step: int
    path: str = Field(description="Relative to the folder of events.jsonl.")
    seconds: float = Field(description="From the last step that is in it until it was on the disk.")
    stall_seconds: float = Field(default=0.0, description="Of these, what the training stood still for.")
    is_best: bool


class WarningRaised(Event):
    """Something that the user should know, and that did not stop the run."""

    event: Literal["warning"] = "warning"
    message: str


class Finished(Event):
    """The last event of a run that ended well."""

    event: Literal["finished"] = "finished"
    epochs: int
    step: int
    best_epoch: int
    best_top1: float
    seconds: float = Field(description="Of this process, from `started`.")
    images_per_second: float = Field(description="All ranks, whole run, evaluation and saving not counted.")


class Failed(Event):
    """A rank's last words."""

    event: Literal["failed"] = "failed"
    step: int
    error: str
    message: str


AnyEvent = Annotated[
    Started | TrainStep | EpochEnd | EvalProgress | EvalEnd | CheckpointSaved | WarningRaised | Finished | Failed,
    Field(discriminator="event"),
]
_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class EventWriter:
    """Appends events to a file; only rank 0 has one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_last_line(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: AnyEvent) -> None:
        """Append one event as one line and hand it to the operating system at once."""
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; the writer is of no use afterwards."""
        self._file.close()


def parse_event(line: str | bytes) -> AnyEvent:
    """Return the event of one line.

    Raises:
        pydantic.ValidationError: the line is not an event of this schema version.
    """
    return _ADAPTER.validate_json(line)


def read_events(path: Path, start_byte: int = 0) -> tuple[list[AnyEvent], int]:
    """Return the whole events from `start_byte` on, and the byte to start from next time.

    A file that is not there yet has no events; a last line without its newline is left for the next call.
    """
    if not path.exists():
        return [], start_byte
    with path.open("rb") as file:
        file.seek(start_byte)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [parse_event(line) for line in whole.splitlines()], start_byte + len(whole)


def last_event(path: Path) -> AnyEvent | None:
    """Return the last whole event without reading the others; None where there is none."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size, length = file.seek(0, os.SEEK_END), _TAIL_BYTES
        while True:
            start = max(0, size - length)
            file.seek(start)
            lines = file.read(size - start).split(b"\n")[:-1]  # what follows the last newline is not whole
            # The first line of a part may be cut off; the last one is whole if there is another before it.
            if lines and (len(lines) > 1 or start == 0):
                return parse_event(lines[-1])
            if start == 0:
                return None
            length *= 2


def _drop_torn_last_line(path: Path) -> None:
    """Cut what a killed writer left behind without a newline, so that the next line starts on its own."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
