"""Shows the progress of training and evaluation, based on the events from the ranks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from resnet50_pipeline.events import (
    AnyEvent,
    CheckpointSaved,
    EpochEnd,
    EvalEnd,
    EvalProgress,
    Finished,
    Restarted,
    Started,
    TrainStep,
    WarningRaised,
)
from resnet50_pipeline.logs.set_up import current_log
from resnet50_pipeline.progress import Progress, current_view
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

_TRAINING = "training"
_EVALUATION = "evaluating"
# Weight of the latest interval in the average, and the largest relative change of the average per interval.
_WEIGHT, _MAX_CHANGE = 0.1, 0.1


class StepTime:
    """An exponential average of the step duration, used to estimate the remaining time.

    On a busy machine, intervals vary by a factor of two, and the first interval includes the startup of the workers.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._intervals = 0

    def add(self, seconds: float) -> float:
        """Add the mean duration of the steps in an interval, and return the average."""
        self._intervals += 1
        if self._intervals == 1:
            self.seconds = seconds
            return seconds
        change = max(_WEIGHT, 1 / self._intervals) * (seconds - self.seconds)
        limit = _MAX_CHANGE * self.seconds
        self.seconds += min(max(change, -limit), limit)
        return self.seconds


class TrainingProgress:
    """Shows loss, top-1, images/s and the remaining time.

    Use it as a context manager, and call it with each event.
    """

    def __init__(self) -> None:
        self._view, self._metrics = current_view(), current_log().metrics
        self._started: Started | None = None
        self._best = 0.0
        self._step_time = StepTime()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view.end(_TRAINING)
        self._view.end(_EVALUATION)
        if self._metrics is not None:
            self._metrics.finish()

    def __call__(self, event: AnyEvent) -> None:
        """Update the display and the metrics file with an event."""
        if self._metrics is not None:
            self._metrics.update(event)
        match event:
            case Started():
                self._start(event)
            case TrainStep():
                self._step(event)
            case EpochEnd():
                logger.info(
                    "epoch %d/%s: train loss %.4f, train top-1 %.2f%%, %.1f images/s",
                    *(event.epoch, self._started.epochs if self._started else "?"),
                    *(event.loss, 100 * event.top1, event.images_per_second),
                    extra={"fields": event.model_dump(include={"epoch", "loss", "top1", "images_per_second"})},
                )
            case EvalProgress():
                show_evaluation(event)
            case EvalEnd():
                self._evaluated(event)
            case CheckpointSaved():
                logger.debug("checkpoint %s saved in %.1f s", event.path, event.seconds)
            case WarningRaised():
                logger.warning("%s", event.message)
            case Restarted():
                pass  # `train.py` logs restarts, because no ranks are running
            case Finished():
                early = "" if event.patience is None else f"; stopped early (training.patience: {event.patience})"
                logger.info(
                    "trained %d epochs in %.0f s at %.1f images/s; best top-1 %.2f%% after epoch %d%s",
                    *(event.epochs, event.seconds, event.images_per_second, 100 * event.best_top1, event.best_epoch),
                    early,
                    extra={"fields": event.model_dump(exclude={"event", "schema_version", "time"})},
                )

    def _start(self, event: Started) -> None:
        self._started = event
        self._view.show(
            Progress(
                what=_TRAINING,
                unit="steps",
                done=event.first_step,
                total=event.epochs * event.steps_per_epoch,
                figures={"epoch": f"{event.first_step // event.steps_per_epoch + 1}/{event.epochs}"},
            )
        )
        logger.info(
            "%s on %s, paddle %s: %d train and %d val images, %s of %s%s",
            *(pluralize(event.ranks, "rank"), event.device, event.paddle_version, event.train_images, event.val_images),
            *(pluralize(event.epochs, "epoch"), pluralize(event.steps_per_epoch, "step")),
            f", resumed after step {event.first_step}" if event.first_step else "",
        )

    def _step(self, event: TrainStep) -> None:
        start = self._started
        step_seconds = self._step_time.add(event.batch_seconds)
        total = None if start is None else start.epochs * start.steps_per_epoch
        figures = {
            "epoch": f"{event.epoch}" if start is None else f"{event.epoch}/{start.epochs}",
            "loss": f"{event.loss:.3f}",
            "train top-1": f"{100 * event.top1:.1f}%",
            "lr": f"{event.learning_rate:.4g}",
        }
        fields: dict[str, str | int | float] = event.model_dump(
            include={"step", "epoch", "loss", "top1", "learning_rate"}
        )
        if start is not None:
            per_epoch = start.images_per_epoch or start.train_images
            images = event.step * per_epoch // start.steps_per_epoch
            fields |= {"images": images, "total_images": start.epochs * per_epoch}
        self._view.show(
            Progress(
                what=_TRAINING,
                unit="steps",
                done=event.step,
                total=total,
                rate=event.images_per_second,
                rate_unit="images",
                seconds_left=None if total is None else (total - event.step) * step_seconds,
                figures=figures,
                fields=fields,
            )
        )

    def _evaluated(self, event: EvalEnd) -> None:
        self._view.end(_EVALUATION)
        balanced = event.balanced_accuracy
        logger.info(
            "epoch %d: val loss %.4f, top-1 %.2f%%, top-5 %.2f%%%s on %d images%s",
            *(event.epoch, event.loss, 100 * event.top1, 100 * event.top5),
            *("" if balanced is None else f", balanced accuracy {100 * balanced:.2f}%", event.images),
            ", the best so far" if event.is_best else "",
            extra={"fields": event.model_dump(exclude={"event", "schema_version", "time"})},
        )
        if event.is_best:
            self._best = event.top1
        best = "" if event.is_best else f" (best {100 * self._best:.2f}%)"
        self._view.show_evaluation(
            f"epoch {event.epoch}: top-1 {100 * event.top1:.2f}%{best}, top-5 {100 * event.top5:.2f}%, "
            f"loss {event.loss:.3f}"
        )


@contextlib.contextmanager
def showing_evaluation(images: int) -> Iterator[Callable[[AnyEvent], None]]:
    """Show the progress of an evaluation of `images` images. Yield a function to call with each event."""
    view = current_view()
    view.show(Progress(what=_EVALUATION, unit="images", total=images))
    try:
        yield show_evaluation
    finally:
        view.end(_EVALUATION)


def show_evaluation(event: AnyEvent) -> None:
    """Show the progress reported by an evaluation event. Ignore all other events."""
    if isinstance(event, EvalProgress):
        rate = event.images_per_second
        current_view().show(
            Progress(
                what=_EVALUATION,
                unit="images",
                done=event.images,
                total=event.total,
                rate=rate,
                seconds_left=(event.total - event.images) / rate if rate > 0 else None,
            )
        )
