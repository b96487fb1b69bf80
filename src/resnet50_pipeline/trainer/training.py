"""The training loop: steps, events at print steps, evaluation at epoch ends, checkpoint sets at both."""

from __future__ import annotations

import logging
import math
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import paddle

from resnet50_pipeline.checkpoint_set import Snapshot, TrainingState, mark_best, read_state
from resnet50_pipeline.events import (
    AnyEvent,
    EpochEnd,
    EvalEnd,
    EventWriter,
    Finished,
    Started,
    TrainStep,
    WarningRaised,
)
from resnet50_pipeline.exceptions import NonFiniteLossError, RunInterruptedError
from resnet50_pipeline.trainer.evaluation import EvaluationReporter, predict
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.meters import EpochMeters, Totals
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.recipe import describe_recipe, require_same_recipe
from resnet50_pipeline.trainer.resume import ResumePoint, find_resume_point
from resnet50_pipeline.trainer.run_data import RunData
from resnet50_pipeline.trainer.saver import CheckpointSaver
from resnet50_pipeline.trainer.skipping import SkippedImages
from resnet50_pipeline.trainer.step import Stepper
from resnet50_pipeline.trainer.stopping import StopRequest
from resnet50_pipeline.training_config import TrainingConfig
from resnet50_pipeline.training_dir import events_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """Sums of an evaluation over all ranks, divided by the number of images."""

    images: int
    loss: float
    top1: float
    top5: float
    images_per_second: float


class TrainingRun:
    """One training, from its first step in this process to the last."""

    def __init__(self, config: TrainingConfig, ranks: Ranks, heartbeat: Heartbeat) -> None:
        self._config, self._ranks, self._heartbeat = config, ranks, heartbeat
        self._stop = StopRequest()
        self._output_dir = Path(config.Global.output_dir)
        self._data = RunData(config, ranks)
        self._skipped = SkippedImages(config.DataLoader.Train.loader.max_skipped_images)
        self._stepper = Stepper(config, ranks, self._data.steps_per_epoch)
        resumed = self._set_to_start()
        self._state = resumed.state
        self._saved_at = (
            (self._state.epoch, self._state.step) if config.Global.checkpoints and resumed.is_exact else None
        )
        self._stepper.connect()
        self._saver, self._events = None, None
        if ranks.is_first:
            self._stepper.make_room()
            self._saver = CheckpointSaver(self._output_dir, config.Global.keep_checkpoints)
            self._events = EventWriter(events_path(self._output_dir))
        self._start_warnings = (*resumed.warnings, *self._data.warnings())

    def execute(self) -> None:
        """Train to the last epoch.

        Raises:
            NonFiniteLossError: the loss became NaN or infinite; the checkpoints are those of before.
            CheckpointError: a set could not be written.
            RunInterruptedError: a rank was asked to stop; all have, and there is a checkpoint set of the last step.
        """
        started = time.perf_counter()
        epochs = self._config.Global.epochs
        self._tell(
            Started(
                ranks=self._ranks.count,
                device=self._config.Global.device,
                epochs=epochs,
                steps_per_epoch=self._data.steps_per_epoch,
                train_images=self._data.train_images,
                val_images=self._data.val_images,
                first_step=self._state.step,
                paddle_version=paddle.__version__,
            )
        )
        for message in self._start_warnings:
            self._tell(WarningRaised(message=message))
        images, seconds = 0.0, 0.0
        for epoch in range(self._state.epoch + 1, epochs + 1):
            trained = self._train_epoch(epoch)
            images, seconds = images + trained.images, seconds + trained.seconds
            self._finish_epoch(epoch)
        self._tell_of_written_set(wait=True)
        self._tell(
            Finished(
                epochs=epochs,
                step=self._state.step,
                best_epoch=self._state.best_epoch,
                best_top1=self._state.best_top1,
                seconds=time.perf_counter() - started,
                images_per_second=images / seconds if seconds else 0.0,
            )
        )
        self._ranks.barrier()

    def _set_to_start(self) -> ResumePoint:
        """Set network and optimizer to what the run begins with or goes on from, and return its state."""
        config = self._config
        fresh = TrainingState(
            epoch=0,
            step=0,
            step_in_epoch=0,
            steps_per_epoch=self._data.steps_per_epoch,
            ranks=self._ranks.count,
            best_epoch=0,
            best_top1=-1.0,
            schedule=self._stepper.schedule.state_dict(),
            recipe=describe_recipe(config),
            paddle_version=paddle.__version__,
        )
        if config.Global.checkpoints is None:
            if config.Global.pretrained_model is None:
                return ResumePoint(fresh)
            found = self._stepper.start_from(Path(config.Global.pretrained_model))
            logger.info("%s: %d tensors loaded", found.path, found.loaded)
            told = found.describe(config.Arch.class_num)
            return ResumePoint(fresh, (told,) if told is not None else ())
        path = Path(config.Global.checkpoints)
        saved = read_state(path)
        require_same_recipe(path, saved.recipe, fresh.recipe)
        point = find_resume_point(saved, self._ranks.count, self._data.steps_per_epoch)
        if not point.is_exact:
            schedule = self._stepper.schedule_after(point.state.step)
            point = replace(point, state=replace(point.state, schedule=schedule))
        self._stepper.restore(path, point.state)
        if self._ranks.is_first and saved.best_epoch:
            # A run killed between the set and the naming of the best left the name of the one before.
            mark_best(self._output_dir, saved)
        return replace(point, state=replace(point.state, paddle_version=paddle.__version__))

    def _train_epoch(self, epoch: int) -> Totals:
        """Train what is left of an epoch; return the totals of the whole of it."""
        config, stepper, update_freq = self._config.Global, self._stepper, self._config.Global.update_freq
        step, first_step = self._state.step, self._state.step - self._state.step_in_epoch
        meters = EpochMeters(self._ranks, step, self._state.meters)
        stepper.train()
        self._data.train_batches.epoch, self._data.train_batches.start_step = (
            epoch,
            self._state.step_in_epoch * update_freq,
        )
        batches = step * update_freq
        learning_rate, waiting_since = stepper.learning_rate, time.perf_counter()
        for batch in self._data.train_loader if self._data.train_batches else ():
            loaded = time.perf_counter()
            learning_rate = stepper.learning_rate
            loss, logits = stepper.run(batch, batches)
            meters.add(loss, logits, batch, reader_seconds=loaded - waiting_since)
            self._skipped.note(batch)
            self._heartbeat.beat()
            batches += 1
            if batches % update_freq:
                waiting_since = time.perf_counter()
                continue
            step += 1
            stops = step % config.print_batch_step == 0 and self._report_step(epoch, step, learning_rate, meters)
            is_whole = step - first_step == self._data.steps_per_epoch
            saves = config.save_interval_steps and step % config.save_interval_steps == 0 and not is_whole
            if stops or saves:
                self._stand_at(step, step - first_step, meters)
            if stops:
                self._save_and_end()
            if saves:
                self._save(is_best=False)
            self._tell_of_written_set()
            waiting_since = time.perf_counter()
        stops = step > self._state.step and self._report_step(epoch, step, learning_rate, meters)
        self._stand_at(step, step - first_step, meters)
        if stops:
            self._save_and_end()
        totals = meters.totals
        self._tell(
            EpochEnd(
                epoch=epoch,
                step=step,
                loss=totals.mean_loss,
                top1=totals.top1,
                images_per_second=totals.images_per_second,
                seconds=totals.seconds,
                skipped_images=int(totals.skipped),
            )
        )
        return totals

    def _report_step(self, epoch: int, step: int, learning_rate: float, meters: EpochMeters) -> bool:
        """Tell of the steps since the last time; return whether a rank was asked to stop."""
        interval, stops = meters.close_interval(step, wants_to_stop=self._stop.is_set)
        if warning := self._skipped.describe(interval, epoch, meters.totals):
            self._tell(WarningRaised(message=warning))
        self._skipped.require_within_limit(meters.totals, epoch)
        if interval.steps == 0:
            return stops
        self._require_finite(interval.mean_loss, "loss", epoch, step)
        self._tell(
            TrainStep(
                step=step,
                epoch=epoch,
                loss=interval.mean_loss,
                top1=interval.top1,
                learning_rate=learning_rate,
                images_per_second=interval.images_per_second,
                reader_seconds=interval.reader_seconds_per_step,
                batch_seconds=interval.seconds_per_step,
            )
        )
        return stops

    def _require_finite(self, value: float, what: str, epoch: int, step: int) -> None:
        # Every rank has the same sum, so every rank stops here, or none.
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the {what} is {value} at step {step} (epoch {epoch}); the last checkpoint set is of epoch "
                f"{self._state.epoch}: lower training.lr or lengthen its warm-up, and start anew"
            )

    def _finish_epoch(self, epoch: int) -> None:
        """Evaluate and save where the intervals say so; the last epoch always has both."""
        config, last = self._config.Global, epoch == self._config.Global.epochs
        is_best = False
        if last or epoch % config.eval_interval == 0:
            found = self._evaluate()
            self._require_finite(found.loss, "val loss", epoch, self._state.step)
            is_best = found.top1 > self._state.best_top1
            best_epoch, best_top1 = (epoch, found.top1) if is_best else (self._state.best_epoch, self._state.best_top1)
            self._state = replace(self._state, best_epoch=best_epoch, best_top1=best_top1)
            self._tell(
                EvalEnd(
                    epoch=epoch,
                    step=self._state.step,
                    images=found.images,
                    loss=found.loss,
                    top1=found.top1,
                    top5=found.top5,
                    images_per_second=found.images_per_second,
                    is_best=is_best,
                )
            )
        self._state = replace(self._state, epoch=epoch, step_in_epoch=0, meters={})
        if last or is_best or epoch % config.save_interval == 0:
            self._save(is_best)

    def _evaluate(self) -> Evaluated:
        # The loader forks its processes at its first batch, which no other thread of this one should see.
        self._tell_of_written_set(wait=True)
        started = time.perf_counter()
        with self._stepper.evaluated_network() as network:
            top_k = min(5, self._config.Arch.class_num)
            reporter = EvaluationReporter(self._tell, self._data.val_images, self._ranks)
            found = predict(network, self._data.val_loader, top_k, self._heartbeat, reporter=reporter, stop=self._stop)
        *sums, stopping = (float(value) for value in self._ranks.sum([*found.sums, float(self._stop.is_set)]))
        if stopping:
            self._save_and_end()
        images, loss, top1, top5 = sums
        return Evaluated(
            images=int(images),
            loss=loss / images,
            top1=top1 / images,
            top5=top5 / images,
            images_per_second=images / (time.perf_counter() - started),
        )

    def _stand_at(self, step: int, step_in_epoch: int, meters: EpochMeters) -> None:
        """Make the place that the run has reached its state."""
        self._state = replace(self._state, step=step, step_in_epoch=step_in_epoch, meters=meters.state())

    def _save(self, is_best: bool) -> None:
        """Begin to write a checkpoint set of the state, unless there is one of the same place."""
        place = (self._state.epoch, self._state.step)
        if place == self._saved_at:
            return
        self._saved_at = place
        if self._saver is None:
            return
        started = time.perf_counter()
        self._tell_of_written_set(wait=True)
        self._state = replace(self._state, **self._stepper.values())
        snapshot = Snapshot(self._state, self._stepper.files())
        self._saver.save(snapshot, is_best=is_best, stall_seconds=time.perf_counter() - started)

    def _tell_of_written_set(self, *, wait: bool = False) -> None:
        if self._saver is not None and (event := self._saver.wait() if wait else self._saver.written()):
            self._tell(event)

    def _save_and_end(self) -> NoReturn:
        self._save(is_best=False)
        self._tell_of_written_set(wait=True)
        self._ranks.barrier()
        raise RunInterruptedError(self._stop.signal_number or signal.SIGTERM)

    def _tell(self, event: AnyEvent) -> None:
        if self._events is not None:
            self._events.write(event)
