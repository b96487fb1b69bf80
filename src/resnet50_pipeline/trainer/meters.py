"""Accumulates loss, correct predictions, images and time. The sums stay on the device until they are reported."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.ranks import Ranks


@dataclass(frozen=True)
class Totals:
    """Sums over steps and ranks.

    `reader_seconds` and `rank_seconds` are summed over ranks, so they can exceed wall time.
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


class Interval(NamedTuple):
    """What all ranks report at the end of an interval."""

    totals: Totals
    stops: bool
    """Whether any rank wants to stop."""
    ranks: NDArray[np.float64]
    """Other values of each rank, [ranks, values]."""


class Meters:
    """A rank's running sums. `add` does not wait for the device."""

    def __init__(self, values: Sequence[float] = (0.0,) * 6) -> None:
        """Start from zero, or from the sums that an earlier call to `values()` returned."""
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
            batch: batch that produced the logits.
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
        # Reading the sums waits for the device, so read the clock after the sums.
        loss, hits = float(self._loss), float(self._hits)
        return [loss, hits, self._images, self._reader_seconds, self._skipped, time.perf_counter() - self._started]

    def totals(self, ranks: Ranks, steps: int, *, wants_to_stop: bool, others: Sequence[float] = ()) -> Interval:
        """Return the sums over all ranks, and the other values from each rank. All ranks must call this method.

        The stop flag and the other values are sent along with the sums, because another collective operation would slow
        down every step.
        """
        table = np.zeros((ranks.count, len(others)))
        table[ranks.rank] = others
        sums = ranks.sum([*self.values(), float(wants_to_stop), *table.reshape(-1)])
        loss, hits, images, reader_seconds, skipped, seconds, stopping = (float(value) for value in sums[:7])
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
        return Interval(totals, stopping > 0, sums[7:].reshape(table.shape))


class EpochMeters:
    """The sums for an epoch: `totals` for the reported steps, and the current interval for the steps since then."""

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

    def close_interval(self, step: int, *, wants_to_stop: bool, others: Sequence[float] = ()) -> Interval:
        """End the current interval and return its totals. `others` are additional values from this rank.

        All ranks must call this method. An interval without steps has zero images.
        """
        steps = step - self._interval_start
        closed = self._interval.totals(self._ranks, steps, wants_to_stop=wants_to_stop, others=others)
        self.totals += closed.totals
        self._interval, self._interval_start = Meters(), step
        return closed

    def state(self) -> dict[str, Any]:
        """Return the state for `__init__`. The state is the same on every rank. All ranks must call this method."""
        return {
            "totals": asdict(self.totals),
            "interval_start": self._interval_start,
            "interval": self._ranks.gather(self._interval.values()).tolist(),
        }


def share_meters(state: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    """Return the state of `EpochMeters`, redistributed across a different number of ranks."""
    if not state:
        return {}
    totals, interval = state["totals"], np.mean(state["interval"], axis=0)
    factor = totals["ranks"] / ranks
    # The images are divided among the ranks, but each rank has spent the same time.
    shared = interval * np.array([factor, factor, factor, 1.0, factor, 1.0])
    seconds = {name: totals[name] / factor for name in ("reader_seconds", "rank_seconds")}
    return {**state, "totals": {**totals, **seconds, "ranks": ranks}, "interval": [shared.tolist()] * ranks}
