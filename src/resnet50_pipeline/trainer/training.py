"""Runs the training loop: trains, writes events, evaluates, and saves checkpoint sets."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import paddle

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
from resnet50_pipeline.recipe.document import TrainingConfig, read_training_config
from resnet50_pipeline.trainer.checkpointing import Checkpointing
from resnet50_pipeline.trainer.checkpoints.saver import CheckpointSaver
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.meters import EpochMeters, Totals
from resnet50_pipeline.trainer.ranks import Ranks, join_ranks, own_rank
from resnet50_pipeline.trainer.run_data import RunData
from resnet50_pipeline.trainer.same_data import require_same_data
from resnet50_pipeline.trainer.skipping import SkippedImages
from resnet50_pipeline.trainer.starting_point import set_starting_point
from resnet50_pipeline.trainer.step import Stepper
from resnet50_pipeline.trainer.stopping import StopRequest
from resnet50_pipeline.trainer.validation import Evaluated, validate
from resnet50_pipeline.training_dir import checkpoint_paths, events_path


def train(config_file: Path, *, resumes_newest: bool) -> None:
    """Join the other ranks and train from scratch, or resume from `Global.checkpoints`.

    Args:
        config_file: PaddleClas YAML file.
        resumes_newest: whether to resume from the newest checkpoint set in the output folder, if there is one.
    """
    config = read_training_config(config_file)
    if resumes_newest and (found := checkpoint_paths(Path(config.Global.output_dir))):
        # Do this before the ranks connect. No rank writes a set until all ranks have connected, so all of them find the
        # same newest set.
        resumed = config.Global.model_copy(update={"checkpoints": str(found[-1])})
        config = config.model_copy(update={"Global": resumed})
    heartbeat = Heartbeat(Path(config.Global.output_dir), own_rank())
    TrainingRun(config, join_ranks(config.Global.device), heartbeat).execute()


class TrainingRun:
    """Runs the training loop in this process, from the first or resumed step to the last."""

    def __init__(self, config: TrainingConfig, ranks: Ranks, heartbeat: Heartbeat) -> None:
        self._config, self._ranks, self._heartbeat = config, ranks, heartbeat
        self._stop = StopRequest()
        self._data = RunData(config, ranks)
        require_same_data(config, ranks, self._data.lists, heartbeat)
        self._skipped = SkippedImages(config.DataLoader.Train.loader.max_skipped_images)
        self._stepper = Stepper(config, ranks, self._data.steps_per_epoch, self._data.class_weights)
        start = set_starting_point(config, ranks, self._stepper, self._data.steps_per_epoch)
        self._state = start.state
        self._start_warnings = (*start.warnings, *self._data.warnings())
        self._stepper.connect()
        saver, self._events = None, None
        if ranks.is_first:
            output_dir = Path(config.Global.output_dir)
            self._stepper.reserve_host_memory()
            saver = CheckpointSaver(output_dir, config.Global.keep_checkpoints)
            self._events = EventWriter(events_path(output_dir))
        resumed_from = self._state if config.Global.checkpoints and start.is_exact else None
        self._checkpoints = Checkpointing(self._stepper, saver, self._emit, resumed_from)

    def execute(self) -> None:
        """Train until the last epoch, or until the patience runs out.

        Raises:
            NonFiniteLossError: if the loss becomes NaN or infinite. Earlier checkpoint sets are kept.
            CheckpointError: if a checkpoint set cannot be written.
            ImageDecodeError: if more images are unreadable than the configuration allows.
            RunInterruptedError: if a rank was asked to stop. All ranks stop after the same step and save a set.
        """
        started = time.perf_counter()
        epochs = self._config.Global.epochs
        self._emit(
            Started(
                ranks=self._ranks.count,
                device=self._config.Global.device,
                epochs=epochs,
                steps_per_epoch=self._data.steps_per_epoch,
                train_images=self._data.train_images,
                val_images=self._data.val_images,
                first_step=self._state.step,
                paddle_version=paddle.__version__,
                images_per_epoch=self._data.balanced_images,
                class_weights=None if self._data.class_weights is None else tuple(self._data.class_weights.tolist()),
            )
        )
        for message in self._start_warnings:
            self._emit(WarningRaised(message=message))
        images, seconds = 0.0, 0.0
        for epoch in range(self._state.epoch + 1, epochs + 1):
            if self._is_out_of_patience(self._state.epoch):
                break
            trained = self._train_epoch(epoch)
            images, seconds = images + trained.images, seconds + trained.seconds
            self._finish_epoch(epoch)
        self._checkpoints.report(wait=True)
        self._emit(
            Finished(
                epochs=self._state.epoch,
                step=self._state.step,
                patience=self._config.Global.patience if self._state.epoch < epochs else None,
                best_epoch=self._state.best_epoch,
                best_top1=self._state.best_top1,
                seconds=time.perf_counter() - started,
                images_per_second=images / seconds if seconds else 0.0,
            )
        )
        # No rank may exit before rank 0 has written the last set and the last event.
        self._ranks.barrier()

    def _train_epoch(self, epoch: int) -> Totals:
        """Train the rest of an epoch. Return the totals of the entire epoch, including steps before a resume."""
        config, stepper, update_freq = self._config.Global, self._stepper, self._config.Global.update_freq
        step, first_step = self._state.step, self._state.step - self._state.step_in_epoch
        meters = EpochMeters(self._ranks, step, self._state.meters)
        stepper.start_epoch(epoch)
        train_batches = self._data.train_batches
        train_batches.epoch, train_batches.start_step = epoch, self._state.step_in_epoch * update_freq
        batches = step * update_freq
        learning_rate, waiting_since = stepper.learning_rate, time.perf_counter()
        for batch in self._data.train_loader if train_batches else ():
            loaded = time.perf_counter()
            learning_rate = stepper.learning_rate
            loss, logits = stepper.run(batch, batches)
            meters.add(loss, logits, batch, reader_seconds=loaded - waiting_since)
            self._skipped.log(batch)
            self._heartbeat.beat()
            batches += 1
            # The rest of the loop body runs once per optimizer step.
            if batches % update_freq:
                waiting_since = time.perf_counter()
                continue
            step += 1
            stops = step % config.print_batch_step == 0 and self._report_step(epoch, step, learning_rate, meters)
            # At the end of an epoch, save only after the evaluation, because the set includes the result.
            is_last = step - first_step == self._data.steps_per_epoch
            saves = config.save_interval_steps and step % config.save_interval_steps == 0 and not is_last
            if stops or saves:
                self._update_position(step, step - first_step, meters)
            if stops:
                self._save_and_exit()
            if saves:
                self._checkpoints.save(self._state, is_best=False)
            self._checkpoints.report()
            waiting_since = time.perf_counter()
        stops = step > self._state.step and self._report_step(epoch, step, learning_rate, meters)
        self._update_position(step, step - first_step, meters)
        if stops:
            self._save_and_exit()
        totals = meters.totals
        self._emit(
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
        """Report the steps since the last report. Return whether a rank was asked to stop. All ranks must call this."""
        interval, stops = meters.close_interval(step, wants_to_stop=self._stop.is_set)
        if warning := self._skipped.describe(interval, epoch, meters.totals):
            self._emit(WarningRaised(message=warning))
        self._skipped.require_within_limit(meters.totals, epoch)
        if interval.steps == 0:
            return stops
        self._require_finite(interval.mean_loss, "loss", epoch, step)
        self._emit(
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

    def _require_finite(self, value: float, name: str, epoch: int, step: int) -> None:
        # The value is a sum over all ranks, so either all ranks raise an error or none does.
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the {name} is {value} at step {step} (epoch {epoch}). The last checkpoint set is from epoch "
                f"{self._state.epoch}. Lower training.lr or lengthen the warm-up, then start from scratch"
            )

    def _finish_epoch(self, epoch: int) -> None:
        """Evaluate, save, or do both, as is due after this epoch. After the last configured epoch, both are due."""
        config, is_last = self._config.Global, epoch == self._config.Global.epochs
        is_best = False
        if is_last or epoch % config.eval_interval == 0:
            evaluated = self._evaluate()
            self._require_finite(evaluated.loss, "val loss", epoch, self._state.step)
            balanced = evaluated.balanced_accuracy if config.best_metric == "balanced_accuracy" else None
            if balanced is None:
                is_best = evaluated.top1 > self._state.best_top1
            else:
                is_best = balanced > self._state.best_balanced_accuracy
            if is_best:
                best = -1.0 if balanced is None else balanced
                self._state = replace(
                    self._state, best_epoch=epoch, best_top1=evaluated.top1, best_balanced_accuracy=best
                )
            self._emit(
                EvalEnd(
                    epoch=epoch,
                    step=self._state.step,
                    images=evaluated.images,
                    loss=evaluated.loss,
                    top1=evaluated.top1,
                    top5=evaluated.top5,
                    images_per_second=evaluated.images_per_second,
                    is_best=is_best,
                    balanced_accuracy=balanced,
                )
            )
        self._state = replace(self._state, epoch=epoch, step_in_epoch=0, meters={})
        is_last = is_last or self._is_out_of_patience(epoch)
        if is_last or is_best or epoch % config.save_interval == 0:
            self._checkpoints.save(self._state, is_best=is_best)

    def _is_out_of_patience(self, epoch: int) -> bool:
        """Return whether training stops early after this epoch. A resumed run makes the same decision."""
        patience, is_evaluated = self._config.Global.patience, epoch % self._config.Global.eval_interval == 0
        return patience is not None and epoch > 0 and is_evaluated and epoch - self._state.best_epoch >= patience

    def _evaluate(self) -> Evaluated:
        # The val loader forks its workers when its first batch is requested. If the saver's thread held a lock at that
        # moment, the workers could never acquire it. The thread must therefore be idle.
        self._checkpoints.report(wait=True)
        with self._stepper.evaluated_network() as network:
            evaluated = validate(
                network,
                self._data,
                self._ranks,
                class_num=self._config.Arch.class_num,
                heartbeat=self._heartbeat,
                emit=self._emit,
                stop=self._stop,
            )
        if evaluated is None:
            self._save_and_exit()
        return evaluated

    def _update_position(self, step: int, step_in_epoch: int, meters: EpochMeters) -> None:
        """Set the run's state to a finished step. All ranks must call this method, because it combines their meters."""
        self._state = replace(self._state, step=step, step_in_epoch=step_in_epoch, meters=meters.state())

    def _save_and_exit(self) -> NoReturn:
        self._checkpoints.save(self._state, is_best=False)
        self._checkpoints.report(wait=True)
        # When a rank exits with an error, the launcher kills the others. All ranks therefore wait for rank 0 to save.
        self._ranks.barrier()
        raise RunInterruptedError(self._stop.signal_number or signal.SIGTERM)

    def _emit(self, event: AnyEvent) -> None:
        if self._events is not None:
            self._events.write(event)
