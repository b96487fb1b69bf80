"""Means over steps and ranks, kept on the device until somebody asks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import paddle

from resnet50_pipeline.trainer.ranks import Ranks


@dataclass(frozen=True)
class Means:
    """Over the steps and all ranks; `images_per_second` is that of all ranks together."""

    loss: float
    top1: float
    images_per_second: float
    reader_seconds: float
    batch_seconds: float
    seconds: float


class Meters:
    """Running sums of one rank. Adding reads nothing back from the device, so a step never waits for it."""

    def __init__(self) -> None:
        self.steps = 0
        self._images = 0
        self._loss: paddle.Tensor | float = 0.0
        self._hits: paddle.Tensor | float = 0.0
        self._reader_seconds = 0.0
        self._seconds = 0.0
        self._started = time.perf_counter()

    def add(self, loss: paddle.Tensor, logits: paddle.Tensor, labels: paddle.Tensor, reader_seconds: float) -> None:
        """Add one step: its mean loss, logits [N, class_num], labels [N], and the seconds spent waiting for it."""
        images = labels.shape[0]
        self.steps += 1
        self._images += images
        self._loss = self._loss + loss.detach() * images
        self._hits = self._hits + (logits.detach().argmax(axis=-1) == labels).astype("float32").sum()
        self._reader_seconds += reader_seconds

    def means(self, ranks: Ranks) -> Means:
        """Return the means over all ranks; every rank must call it."""
        # Reading the sums waits for the device; only then is the time that the steps took over.
        loss, hits = float(self._loss), float(self._hits)
        loss, hits, images, reader, total = ranks.sum([loss, hits, self._images, self._reader_seconds, self._elapsed()])
        seconds = total / ranks.count
        return Means(
            loss=loss / images,
            top1=hits / images,
            images_per_second=images / seconds,
            reader_seconds=reader / ranks.count / self.steps,
            batch_seconds=seconds / self.steps,
            seconds=seconds,
        )

    def merge(self, other: Meters) -> None:
        """Add what `other` has counted."""
        self.steps += other.steps
        self._images += other._images
        self._loss = self._loss + other._loss
        self._hits = self._hits + other._hits
        self._reader_seconds += other._reader_seconds

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started
