"""Sums over steps and ranks, kept on the device until somebody asks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import paddle

from resnet50_pipeline.trainer.data import Batch
from resnet50_pipeline.trainer.ranks import Ranks


@dataclass(frozen=True)
class Totals:
    """Sums over some steps of all ranks; seconds are those of all ranks together."""

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
        """Mean loss of an image."""
        return self.loss / self.images

    @property
    def top1(self) -> float:
        """Fraction of images whose first guess was the label, 0..1."""
        return self.hits / self.images

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.rank_seconds / self.ranks

    @property
    def images_per_second(self) -> float:
        """All ranks together."""
        return self.images / self.seconds

    @property
    def reader_seconds_per_step(self) -> float:
        """Mean wait for the batches of a step."""
        return self.reader_seconds / self.ranks / self.steps

    @property
    def seconds_per_step(self) -> float:
        """Mean duration of a step, waiting included."""
        return self.seconds / self.steps


class Meters:
    """Running sums of one rank. Adding reads nothing back from the device, so a step never waits for it."""

    def __init__(self, values: Sequence[float] = (0.0,) * 6) -> None:
        """Begin with what `values` returned, or at zero."""
        self._loss: paddle.Tensor | float
        self._hits: paddle.Tensor | float
        self._loss, self._hits, self._images, self._reader_seconds, self._skipped, elapsed = values
        self._started = time.perf_counter() - elapsed

    def add(self, loss: paddle.Tensor, logits: paddle.Tensor, batch: Batch, reader_seconds: float) -> None:
        """Add one batch: its mean loss, logits [N, class_num], itself, and the seconds spent waiting for it.

        A mixed image counts as a hit where the first guess is the label that the batch names it by.
        """
        images = batch.labels.shape[0]
        self._images += images
        self._loss = self._loss + loss.detach() * images
        self._hits = self._hits + (logits.detach().argmax(axis=-1) == batch.labels).astype("float32").sum()
        self._reader_seconds += reader_seconds
        self._skipped += len(batch.skipped)

    def values(self) -> list[float]:
        """Return the sums: loss, hits, images, seconds of waiting, skipped images, seconds in all."""
        # Reading the sums waits for the device; only then is the time that the steps took over.
        loss, hits = float(self._loss), float(self._hits)
        return [loss, hits, self._images, self._reader_seconds, self._skipped, time.perf_counter() - self._started]

    def totals(self, ranks: Ranks, steps: int, *, wants_to_stop: bool) -> tuple[Totals, bool]:
        """Return the sums over all ranks, and whether one of them wants to stop; every rank must call it.

        The question rides on a meeting that there is anyway: asking at every step would make every step wait.
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
    """The sums of an epoch: `totals` of what was reported, and an interval that was not reported yet."""

    def __init__(self, ranks: Ranks, start_step: int, state: Mapping[str, Any] | None = None) -> None:
        """Begin an epoch at `start_step` (finished steps since the very beginning), or go on from a state."""
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
        """Return the interval's totals and whether a rank wants to stop; begin a new interval.

        An interval without a step has totals without images.
        """
        interval, stops = self._interval.totals(self._ranks, step - self._interval_start, wants_to_stop=wants_to_stop)
        self.totals += interval
        self._interval, self._interval_start = Meters(), step
        return interval, stops

    def state(self) -> dict[str, Any]:
        """Return what `__init__` goes on from, the same on every rank; every rank must call it."""
        return {
            "totals": asdict(self.totals),
            "interval_start": self._interval_start,
            "interval": self._ranks.gather(self._interval.values()).tolist(),
        }
