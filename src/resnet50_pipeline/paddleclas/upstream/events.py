"""Converts lines of PaddleClas' log to the native trainer's events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, Finished, Started, TrainStep, WarningRaised
from resnet50_pipeline.exceptions import NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.upstream.log import (
    BestMetric,
    EvalAverage,
    EvalLine,
    ImageReplaced,
    LogEntry,
    PaddleFound,
    TrainAverage,
    TrainLine,
)
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.text import pluralize

_ACCURACY = "top"


@dataclass(frozen=True)
class RunFacts:
    """Properties of a run that PaddleClas' log does not contain."""

    ranks: int
    device: str
    epochs: int
    train_images: int
    val_images: int
    batch_size_per_rank: int
    eval_batch_size_per_rank: int
    drop_last: bool
    update_freq: int
    has_ema: bool
    repeats_images: bool = False
    """Whether the sampler is RASampler."""
    logged_iterations: int | None = None
    """Batches per rank and epoch according to the log. Set only with DALI, which counts batches differently."""
    finished_epochs: int = 0
    """Epochs finished in the checkpoint that the run resumes from."""

    @classmethod
    def of(cls, config: TrainingConfig, *, ranks: int, images: tuple[int, int], finished_epochs: int) -> RunFacts:
        """Derive the properties from a configuration. `images` contains the lengths of the train and val lists."""
        train, val = config.DataLoader.Train.sampler, config.DataLoader.Eval.sampler
        return cls(
            ranks=ranks,
            device=config.Global.device,
            epochs=config.Global.epochs,
            train_images=images[0],
            val_images=images[1],
            batch_size_per_rank=train.batch_size,
            eval_batch_size_per_rank=val.batch_size,
            drop_last=train.drop_last,
            update_freq=config.Global.update_freq,
            has_ema=config.EMA is not None,
            repeats_images=train.name == "RASampler",
            finished_epochs=finished_epochs,
        )

    @property
    def images_per_rank(self) -> int:
        """Images per rank and epoch. Every rank has the same number, so the first images may be repeated."""
        share = -(-self.train_images // self.ranks)
        if self.repeats_images:  # in multiples of 256 (ppcls/data/dataloader/ra_sampler.py)
            share = self.train_images // 256 * 256 // self.ranks
        return share // self.batch_size_per_rank * self.batch_size_per_rank if self.drop_last else share

    @property
    def iterations(self) -> int:
        """Batches per rank and epoch, excluding a final incomplete accumulation group (`ppcls/engine/engine.py`)."""
        if self.logged_iterations is not None:
            return self.logged_iterations
        batches = -(-self.images_per_rank // self.batch_size_per_rank)
        return batches if batches < self.update_freq else batches // self.update_freq * self.update_freq

    def images_after(self, iteration: int) -> int:
        """Return the number of images that a rank has used in an epoch after batch `iteration` (0-based)."""
        return min((iteration + 1) * self.batch_size_per_rank, self.images_per_rank)

    def steps_after(self, epoch: int, iterations: int) -> int:
        """Return the number of optimizer steps completed after `iterations` batches of `epoch` (1-based)."""
        frequency = self.update_freq if self.iterations >= self.update_freq else 1
        return ((epoch - 1) * self.iterations + iterations) // frequency


@dataclass
class _Epoch:
    """Running totals over the log lines of the current epoch."""

    images: int = 0
    iterations: int = 0
    loss: float = 0.0
    hits: float = 0.0
    seconds: float = 0.0


@dataclass
class EventBuilder:
    """Builds events from log entries. Entries must be added in order.

    Upstream prints rank 0's means since the start of the epoch, with five decimals. This class computes the means since
    the previous line, so near the end of an epoch, a loss is off by about 1e-5 times the number of lines. The number of
    correct predictions is rounded to an integer, which is exact below 100,000 images. Durations are the printed
    durations per step times the number of steps.
    """

    facts: RunFacts
    best_epoch: int = 0
    best_top1: float = -1.0
    uses_dali: bool = False
    clock: Callable[[], float] = time.monotonic
    last_epoch: int = field(init=False)
    """The last epoch whose training has finished."""
    _started_at: float | None = field(default=None, init=False)
    _paddle_version: str = field(default="unknown", init=False)
    _epoch: _Epoch = field(default_factory=_Epoch, init=False)
    _trained_images: float = field(default=0.0, init=False)
    _trained_seconds: float = field(default=0.0, init=False)
    _eval_costs: list[float] = field(default_factory=list, init=False)
    _evaluated: EvalAverage | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.last_epoch = self.facts.finished_epochs

    def add(self, entry: LogEntry) -> list[AnyEvent]:
        """Add a log entry and return the resulting events.

        Raises:
            NonFiniteLossError: if the loss is NaN or infinite. Upstream itself would continue.
        """
        match entry:
            case PaddleFound(version):
                self._paddle_version = version
            case TrainLine():
                return [*self._start(entry.iterations), self._train_step(entry)]
            case TrainAverage():
                return [self._end_epoch(entry)]
            case EvalLine(values):
                self._eval_costs.append(values.get("batch_cost", math.nan))
            case EvalAverage():
                self._evaluated = entry
            case BestMetric(_, is_ema) if is_ema == self.facts.has_ema and self._evaluated is not None:
                return [self._end_evaluation(self._evaluated)]
            case ImageReplaced(problem):
                text = f"an image could not be read, and PaddleClas used another image instead: {problem}"
                return [WarningRaised(message=text)]
        return []

    def finish(self) -> list[AnyEvent]:
        """Return the final events of a run after all of its processes have ended successfully.

        Raises:
            RankFailedError: if the processes ended before the last epoch.
        """
        facts = self.facts
        if self.last_epoch < facts.epochs:
            raise RankFailedError(
                f"PaddleClas stopped without an error after epoch {self.last_epoch} of {facts.epochs}; see its log"
            )
        events = self._start(facts.iterations)
        speed = self._trained_images / self._trained_seconds if self._trained_seconds else 0.0
        finished = Finished(
            epochs=facts.epochs,
            step=facts.steps_after(facts.epochs, facts.iterations),
            best_epoch=self.best_epoch,
            best_top1=self.best_top1,
            seconds=self.clock() - (self._started_at or self.clock()),
            images_per_second=speed,
        )
        return [*events, finished]

    @property
    def paddle_version(self) -> str:
        """Paddle's version according to the log."""
        return self._paddle_version

    def _start(self, iterations: int) -> list[AnyEvent]:
        if self._started_at is not None:
            return []
        self._started_at = self.clock()
        if self.uses_dali:
            self.facts = replace(self.facts, logged_iterations=iterations)
        facts = self.facts
        if iterations != facts.iterations:
            raise RankFailedError(
                f"PaddleClas logs {iterations} batches per epoch, but {pluralize(facts.train_images, 'image')}, "
                f"{pluralize(facts.ranks, 'rank')}, and a batch size of {facts.batch_size_per_rank} give "
                f"{facts.iterations}; use a checkout of release/2.6 or develop, and leave the list unchanged during "
                "training"
            )
        started = Started(
            ranks=facts.ranks,
            device=facts.device,
            epochs=facts.epochs,
            steps_per_epoch=facts.steps_after(1, iterations),
            train_images=facts.train_images,
            val_images=facts.val_images,
            first_step=facts.steps_after(facts.finished_epochs + 1, 0),
            paddle_version=self._paddle_version,
        )
        return [started]

    def _train_step(self, line: TrainLine) -> TrainStep:
        facts, before = self.facts, self._epoch
        step = facts.steps_after(line.epoch, line.iteration + 1)
        loss, top1 = line.values["loss"], line.values.get("top1", math.nan)
        self._require_finite(loss, "loss", line.epoch, step)
        images, iterations = facts.images_after(line.iteration), line.iteration + 1
        new_images, new_iterations = images - before.images, iterations - before.iterations
        seconds = line.values.get("batch_cost", math.nan)
        whole_seconds = before.seconds + seconds * new_iterations
        self._epoch = _Epoch(images, iterations, loss * images, _hits(top1, images), whole_seconds)
        return TrainStep(
            step=step,
            epoch=line.epoch,
            loss=max(0.0, (self._epoch.loss - before.loss) / new_images),
            top1=float(np.clip((self._epoch.hits - before.hits) / new_images, 0, 1)),
            learning_rate=line.learning_rate,
            images_per_second=facts.batch_size_per_rank * facts.ranks / seconds,
            reader_seconds=line.values.get("reader_cost", math.nan),
            batch_seconds=seconds,
        )

    def _end_epoch(self, average: TrainAverage) -> EpochEnd:
        facts, printed = self.facts, self._epoch
        self._require_finite(average.values["loss"], "loss", average.epoch, facts.steps_after(average.epoch + 1, 0))
        # The last line may not cover the last steps of the epoch. Assume that these steps took as long as the others.
        seconds = printed.seconds * facts.iterations / printed.iterations if printed.iterations else math.nan
        images = facts.images_after(facts.iterations - 1) * facts.ranks
        self._epoch = _Epoch()
        self.last_epoch = average.epoch
        self._trained_images += images
        self._trained_seconds += seconds
        return EpochEnd(
            epoch=average.epoch,
            step=facts.steps_after(average.epoch + 1, 0),
            loss=average.values["loss"],
            top1=average.values.get("top1", math.nan),
            images_per_second=images / seconds,
            seconds=seconds,
        )

    def _end_evaluation(self, average: EvalAverage) -> EvalEnd:
        facts, values = self.facts, average.values
        step = facts.steps_after(average.epoch + 1, 0)
        self._require_finite(values["loss"], "val loss", average.epoch, step)
        best_of_k = max((name for name in values if name.startswith(_ACCURACY)), key=lambda name: int(name[3:]))
        top1, top5 = (_hits(values[name], facts.val_images) / facts.val_images for name in ("top1", best_of_k))
        is_best = top1 > self.best_top1
        if is_best:
            self.best_epoch, self.best_top1 = average.epoch, top1
        seconds = sum(self._eval_costs) / len(self._eval_costs) if self._eval_costs else math.nan
        self._eval_costs, self._evaluated = [], None
        return EvalEnd(
            epoch=average.epoch,
            step=step,
            images=facts.val_images,
            loss=values["loss"],
            top1=top1,
            top5=top5,
            images_per_second=facts.eval_batch_size_per_rank * facts.ranks / seconds,
            is_best=is_best,
        )

    def _require_finite(self, value: float, what: str, epoch: int, step: int) -> None:
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the {what} is {value} at step {step} (epoch {epoch}). PaddleClas itself would continue, so the run "
                "was stopped; earlier checkpoints are kept. Lower training.lr or lengthen the warm-up, then start from "
                "scratch"
            )


def _hits(fraction: float, images: int) -> float:
    """Return the number of correct predictions for a printed accuracy.

    Return NaN if the recipe mixes images, in which case upstream prints no accuracy.
    """
    return fraction if math.isnan(fraction) else float(round(fraction * images))
