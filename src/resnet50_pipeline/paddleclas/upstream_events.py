"""From the lines of PaddleClas' log to the events that the native trainer writes itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, Finished, Started, TrainStep, WarningRaised
from resnet50_pipeline.exceptions import NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.upstream_log import (
    BestMetric,
    EvalAverage,
    EvalLine,
    ImageReplaced,
    LogEntry,
    PaddleFound,
    TrainAverage,
    TrainLine,
)
from resnet50_pipeline.training_config import TrainingConfig

_ACCURACY = "top"


@dataclass(frozen=True)
class RunFacts:
    """What the log does not say of a run."""

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
    told_iterations: int | None = None
    """Batches of a rank in an epoch, as the log says; DALI counts for itself."""
    finished_epochs: int = 0
    """Those of the checkpoint that the run goes on from."""

    @classmethod
    def of(cls, config: TrainingConfig, *, ranks: int, images: tuple[int, int], finished_epochs: int) -> RunFacts:
        """Return the facts of a configuration; `images` are those of the train list and of the val list."""
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
        """Images of a rank in an epoch: every rank has as many, the first ones of the list serve twice."""
        share = -(-self.train_images // self.ranks)
        if self.repeats_images:  # in whole 256s (ppcls/data/dataloader/ra_sampler.py)
            share = self.train_images // 256 * 256 // self.ranks
        return share // self.batch_size_per_rank * self.batch_size_per_rank if self.drop_last else share

    @property
    def iterations(self) -> int:
        """Batches of a rank in an epoch, but those that fill no optimizer step (`ppcls/engine/engine.py`)."""
        if self.told_iterations is not None:
            return self.told_iterations
        batches = -(-self.images_per_rank // self.batch_size_per_rank)
        return batches if batches < self.update_freq else batches // self.update_freq * self.update_freq

    def images_after(self, iteration: int) -> int:
        """Return the images that a rank has seen in an epoch after its `iteration`-th (0-based) batch."""
        return min((iteration + 1) * self.batch_size_per_rank, self.images_per_rank)

    def steps_after(self, epoch: int, iterations: int) -> int:
        """Return the finished optimizer steps after so many batches of an epoch (1-based)."""
        frequency = self.update_freq if self.iterations >= self.update_freq else 1
        return ((epoch - 1) * self.iterations + iterations) // frequency


@dataclass
class _Epoch:
    """What the lines of the epoch that is under way have added up to."""

    images: int = 0
    iterations: int = 0
    loss: float = 0.0
    hits: float = 0.0
    seconds: float = 0.0


@dataclass
class EventBuilder:
    """Takes what log lines say, in order, and returns the events that follow from it.

    Upstream prints the means of rank 0 since the beginning of the epoch, with five decimals; the means since the line
    before are computed from two of them, so near an epoch's end a loss is only good to some 1e-5 times the number of
    lines. Hits are whole, and come out exactly below 100 000 images. Seconds are the costs that it prints, by the steps
    that they stand for.
    """

    facts: RunFacts
    best_epoch: int = 0
    best_top1: float = -1.0
    uses_dali: bool = False
    clock: Callable[[], float] = time.monotonic
    last_epoch: int = field(init=False)
    """The last epoch whose training is over."""
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
        """Return the events that an entry completes.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite; upstream itself would train on.
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
                text = f"an image could not be read, and PaddleClas trained or evaluated with another: {problem}"
                return [WarningRaised(message=text)]
        return []

    def finish(self) -> list[AnyEvent]:
        """Return the last events of a run whose processes have ended well.

        Raises:
            RankFailedError: they ended before the last epoch.
        """
        facts = self.facts
        if self.last_epoch < facts.epochs:
            raise RankFailedError(
                f"PaddleClas ended without an error after epoch {self.last_epoch} of {facts.epochs}; look into its log"
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
        """The version that upstream runs on, as it says."""
        return self._paddle_version

    def _start(self, iterations: int) -> list[AnyEvent]:
        if self._started_at is not None:
            return []
        self._started_at = self.clock()
        if self.uses_dali:
            self.facts = replace(self.facts, told_iterations=iterations)
        facts = self.facts
        if iterations != facts.iterations:
            raise RankFailedError(
                f"PaddleClas trains {iterations} batches an epoch where {facts.iterations} follow from "
                f"{facts.train_images} images, {facts.ranks} ranks and batches of {facts.batch_size_per_rank}; the "
                f"checkout is not of release/2.6 or develop, or the list changed"
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
        # The last line may stand for fewer steps than there were: the others are taken to last as long.
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
                f"the {what} is {value} at step {step} (epoch {epoch}); PaddleClas would have gone on and was ended. "
                f"Its checkpoints of the epochs before stand: lower training.lr or lengthen its warm-up, and start anew"
            )


def _hits(fraction: float, images: int) -> float:
    """Return the whole number of hits behind a printed fraction; NaN where batches are mixed and none is printed."""
    return fraction if math.isnan(fraction) else float(round(fraction * images))
