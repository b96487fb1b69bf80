"""Accumulates loss, correct predictions, images and time. The sums stay on the device until they are reported."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import paddle

from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.ranks import Ranks


@dataclass(frozen=True)
class Totals:
    """Sums over steps and ranks.

    `reader_seconds` and `rank_seconds` are summed over ranks, so they exceed wall time.
    """

    ranks: int
    steps: int = 0
    images: float = 0.0
    loss: float = 0.0
    hits: float = 0.0
    reader_seconds: float = 0.0
    rank_seconds: float = 0.0
    skipped: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            ranks=self.ranks,
            steps=self.steps + other.steps,
            images=self.images + other.images,
            loss=self.loss + other.loss,
            hits=self.hits + other.hits,
            reader_seconds=self.reader_seconds + other.reader_seconds,
            rank_seconds=self.rank_seconds + other.rank_seconds,
            skipped=self.skipped + other.skipped,
        )

    @property
    def mean_loss(self) -> float:
        """Mean loss per image."""
        return self.loss / self.images

    @property
    def top1(self) -> float:
        """Top-1 accuracy as a fraction, 0..1."""
        return self.hits / self.images

    @property
    def seconds(self) -> float:
        """Wall time in seconds."""
        return self.rank_seconds / self.ranks

    @property
    def images_per_second(self) -> float:
        """Total throughput of all ranks."""
        return self.images / self.seconds

    @property
    def reader_seconds_per_step(self) -> float:
        """Mean time that a step waits for its batches."""
        return self.reader_seconds / self.ranks / self.steps

    @property
    def seconds_per_step(self) -> float:
        """Mean duration of a step, including the wait for its batches."""
        return self.seconds / self.steps


class Meters:
    """Running sums of a rank. `add` does not wait for the device."""

    def __init__(self, values: Sequence[float] = (0.0,) * 6) -> None:
        """Start with zeros, or continue with sums from an earlier call to `values()`."""
        self._loss: paddle.Tensor | float
        self._hits: paddle.Tensor | float
        self._loss, self._hits, self._images, self._reader_seconds, self._skipped, elapsed = values
        self._started = time.perf_counter() - elapsed

    def add(self, loss: paddle.Tensor, logits: paddle.Tensor, batch: Batch, reader_seconds: float) -> None:
        """Add a batch to the sums.

        A mixed image counts as a hit if its most probable class is its original label.

        Args:
            loss: mean loss of the batch.
            logits: [N, class_num].
            batch: batch that the logits were computed for.
            reader_seconds: time spent waiting for the batch.
        """
        images = batch.labels.shape[0]
        self._images += images
        self._loss = self._loss + loss.detach() * images
        self._hits = self._hits + (logits.detach().argmax(axis=-1) == batch.labels).astype("float32").sum()
        self._reader_seconds += reader_seconds
        self._skipped += len(batch.skipped)

    def values(self) -> list[float]:
        """Return the sums: loss, hits, images, seconds spent waiting for batches, skipped images, total seconds."""
        # Reading the sums waits for the device, so it must precede reading the clock.
        loss, hits = float(self._loss), float(self._hits)
        return [loss, hits, self._images, self._reader_seconds, self._skipped, time.perf_counter() - self._started]

    def totals(self, ranks: Ranks, steps: int, *, wants_to_stop: bool) -> tuple[Totals, bool]:
        """Return the sums over all ranks, and whether any rank wants to stop. All ranks must call this method.

        The stop flag is sent together with the sums, because a separate collective operation would slow down every
        step.
        """
        *sums, stopping = ranks.sum([*self.values(), float(wants_to_stop)])
        loss, hits, images, reader_seconds, skipped, seconds = (float(value) for value in sums)
        totals = Totals(
            ranks=ranks.count,
            steps=steps,
            images=images,
            loss=loss,
            hits=hits,
            reader_seconds=reader_seconds,
            rank_seconds=seconds,
            skipped=skipped,
        )
        return totals, stopping > 0


class EpochMeters:
    """The sums of an epoch. `totals` covers the reported steps. Later steps belong to the current interval."""

    def __init__(self, ranks: Ranks, start_step: int, state: Mapping[str, Any] | None = None) -> None:
        """Start an epoch, or continue it from a saved `state`.

        `start_step` counts steps since the start of training.
        """
        self._ranks = ranks
        self.totals = Totals(ranks=ranks.count)
        self._interval_start = start_step
        self._interval = Meters()
        if state:
            self.totals = Totals(**state["totals"])
            self._interval_start = state["interval_start"]
            self._interval = Meters(state["interval"][ranks.rank])

    def add(self, loss: paddle.Tensor, logits: paddle.Tensor, batch: Batch, reader_seconds: float) -> None:
        """Add one batch (see `Meters.add`)."""
        self._interval.add(loss, logits, batch, reader_seconds)

    def close_interval(self, step: int, *, wants_to_stop: bool) -> tuple[Totals, bool]:
        """End the current interval. Return its totals, and whether any rank wants to stop.

        All ranks must call this method. An interval without steps has zero images.
        """
        interval, stops = self._interval.totals(self._ranks, step - self._interval_start, wants_to_stop=wants_to_stop)
        self.totals += interval
        self._interval, self._interval_start = Meters(), step
        return interval, stops

    def state(self) -> dict[str, Any]:
        """Return the state to pass to `__init__`. It is the same on all ranks, and all ranks must call this method."""
        return {
            "totals": asdict(self.totals),
            "interval_start": self._interval_start,
            "interval": self._ranks.gather(self._interval.values()).tolist(),
        }
