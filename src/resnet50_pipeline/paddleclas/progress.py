"""What a person sees while ranks train: a live bar in a terminal, plain lines elsewhere; both read from events."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from resnet50_pipeline.events import (
    AnyEvent,
    CheckpointSaved,
    EpochEnd,
    EvalEnd,
    Finished,
    Started,
    TrainStep,
    WarningRaised,
)

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Shows loss, top-1, images/s and the time left; a context manager, called with each event."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            # Made to fit 80 columns, the bar taking what is left.
            TextColumn("[bold]epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.0f}%"),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("top-1 {task.fields[top1]}"),
            TextColumn("val {task.fields[best]}"),
            TextColumn("{task.fields[speed]} images/s"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=None, epoch="-", loss="-", top1="-", speed="-", best="-")
        self._started: Started | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: AnyEvent) -> None:
        """Show one event."""
        match event:
            case Started():
                self._start(event)
            case TrainStep():
                self._step(event)
            case EpochEnd():
                logger.info(
                    "epoch %d/%s: train loss %.4f, top-1 %.2f %%, %.1f images/s",
                    event.epoch,
                    self._started.epochs if self._started else "?",
                    event.loss,
                    100 * event.top1,
                    event.images_per_second,
                )
            case EvalEnd():
                self._evaluated(event)
            case CheckpointSaved():
                logger.debug("checkpoint %s saved in %.1f s", event.path, event.seconds)
            case WarningRaised():
                logger.warning(event.message)
            case Finished():
                logger.info(
                    "trained %d epochs in %.0f s at %.1f images/s; best top-1 %.2f %% after epoch %d",
                    event.epochs,
                    event.seconds,
                    event.images_per_second,
                    100 * event.best_top1,
                    event.best_epoch,
                )

    def _start(self, event: Started) -> None:
        self._started = event
        self._bar.update(
            self._task,
            total=event.epochs * event.steps_per_epoch,
            completed=event.first_step,
            epoch=f"1/{event.epochs}",
        )
        logger.info(
            "%d ranks on %s, paddle %s: %d train and %d val images, %d epochs of %d steps%s",
            event.ranks,
            event.device,
            event.paddle_version,
            event.train_images,
            event.val_images,
            event.epochs,
            event.steps_per_epoch,
            f", resumed after step {event.first_step}" if event.first_step else "",
        )

    def _step(self, event: TrainStep) -> None:
        epochs = self._started.epochs if self._started else "?"
        self._bar.update(
            self._task,
            completed=event.step,
            epoch=f"{event.epoch}/{epochs}",
            loss=f"{event.loss:.3f}",
            top1=f"{100 * event.top1:.1f}%",
            speed=f"{event.images_per_second:.0f}",
        )
        if not self._console.is_terminal:
            total = epochs * self._started.steps_per_epoch if self._started and isinstance(epochs, int) else 0
            left = f", ETA {_clock((total - event.step) * event.batch_seconds)}" if total else ""
            logger.info(
                "step %d/%s: loss %.4f, top-1 %.1f %%, lr %.5f, %.1f images/s%s",
                event.step,
                total or "?",
                event.loss,
                100 * event.top1,
                event.learning_rate,
                event.images_per_second,
                left,
            )

    def _evaluated(self, event: EvalEnd) -> None:
        logger.info(
            "epoch %d: val loss %.4f, top-1 %.2f %%, top-5 %.2f %% on %d images%s",
            event.epoch,
            event.loss,
            100 * event.top1,
            100 * event.top5,
            event.images,
            ", the best so far" if event.is_best else "",
        )
        if event.is_best:
            self._bar.update(self._task, best=f"{100 * event.top1:.1f}%")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
