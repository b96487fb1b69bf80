"""Runs the training loop: optimizer steps, evaluations, events and checkpoint sets."""

from __future__ import annotations

import math
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

from resnet50_pipeline.events import (
    AnyEvent,
    EpochEnd,
    EventWriter,
    Finished,
    TrainStep,
    WarningRaised,
)
from resnet50_pipeline.exceptions import NonFiniteLossError, RunInterruptedError
from resnet50_pipeline.recipe.document import TrainingConfig, read_training_config
from resnet50_pipeline.trainer.checkpointing import Checkpointing, start_replica_check
from resnet50_pipeline.trainer.checkpoints.margins import Margins
from resnet50_pipeline.trainer.checkpoints.saver import CheckpointSaver
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.meters import EpochMeters, Totals
from resnet50_pipeline.trainer.monitoring.memory import explaining_out_of_memory
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
        self._start_warnings = [*start.warnings, *self._data.warnings()]
        self._margins = None
        if config.Global.record_margins:
            self._margins = Margins(self._data.train_images, ranks)
            self._start_warnings += self._margins.resume(config.Global.checkpoints, start.state.step)
        self._stepper.connect()
        saver, self._events = None, None
        if ranks.is_first:
            output_dir = Path(config.Global.output_dir)
            self._stepper.reserve_host_memory()
            saver = CheckpointSaver(output_dir, config.Global.keep_checkpoints)
            self._events = EventWriter(events_path(output_dir))
        resumed_from = self._state if config.Global.checkpoints and start.is_exact else None
        self._replicas = start_replica_check(config, ranks, self._stepper, self._emit, start)
        self._checkpoints = Checkpointing(
            self._stepper, saver, self._emit, self._replicas, resumed_from=resumed_from, margins=self._margins
        )

    def execute(self) -> None:
        """Train until the last epoch, or until patience runs out.

        Raises:
            NonFiniteLossError: if the loss becomes NaN or infinite. Earlier checkpoint sets are kept.
            CheckpointError: if a checkpoint set cannot be written.
            ImageDecodeError: if more images are unreadable than the configuration allows.
            ReplicasDifferError: if the ranks do not have the same weights.
            RunInterruptedError: if a rank was asked to stop. All ranks stop after the same step and save a set.
        """
        started = time.perf_counter()
        epochs = self._config.Global.epochs
        self._emit(self._data.started(self._state.step))
        for message in self._start_warnings:
            self._emit(WarningRaised(message=message))
        images, seconds = 0.0, 0.0
        for epoch in range(self._state.epoch + 1, epochs + 1):
            if self._is_out_of_patience(self._state.epoch):
                break
            trained = self._train_epoch(epoch)
            images, seconds = images + trained.images, seconds + trained.seconds
            self._finish_epoch(epoch)
        self._stepper.monitor.finish()
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
        """Train the rest of an epoch. Return the totals for the entire epoch, including the steps before a resume."""
        config, stepper = self._config.Global, self._stepper
        batches_per_step = stepper.batches_per_step
        step, first_step = self._state.step, self._state.step - self._state.step_in_epoch
        meters = EpochMeters(self._ranks, step, self._state.meters)
        stepper.start_epoch(epoch)
        train_batches = self._data.train_batches
        train_batches.epoch, train_batches.start_step = epoch, self._state.step_in_epoch * config.update_freq
        batches = step * batches_per_step
        learning_rate, clock = stepper.learning_rate, stepper.monitor.clock
        clock.close()  # discards the time spent saving the set after the previous epoch
        waiting_since = time.perf_counter()
        for batch in self._data.train_loader if train_batches else ():
            reader_seconds = time.perf_counter() - waiting_since
            clock.add("load", reader_seconds)
            learning_rate = stepper.learning_rate
            is_last = step + 1 - first_step == self._data.steps_per_epoch
            is_reported = is_last or (step + 1) % config.print_batch_step == 0
            with self._explaining_memory("training"):
                loss, logits = stepper.run(batch, batches, is_reported=is_reported)
            meters.add(loss, logits, batch, reader_seconds=reader_seconds)
            if self._margins is not None:
                self._margins.add(logits, batch)
            self._skipped.log(batch)
            self._heartbeat.beat()
            batches += 1
            # The rest of the loop body runs once per optimizer step.
            if batches % batches_per_step:
                waiting_since = time.perf_counter()
                continue
            step += 1
            self._replicas.check_at_interval(step)
            stops = step % config.print_batch_step == 0 and self._report_step(epoch, step, learning_rate, meters)
            # At the end of an epoch, save after the evaluation, because the set includes its result.
            saves = config.save_interval_steps and step % config.save_interval_steps == 0 and not is_last
            if stops or saves:
                self._update_position(step, step - first_step, meters)
            if stops:
                self._save_and_exit()
            if saves:
                saving_since = time.perf_counter()
                self._checkpoints.save(self._state, is_best=False)
                clock.add("checkpoint", time.perf_counter() - saving_since)
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
        monitor = self._stepper.monitor
        interval, stops, ranks = meters.close_interval(
            step, wants_to_stop=self._stop.is_set, others=monitor.close_interval()
        )
        if self._margins is not None:
            self._margins.fetch()
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
                **monitor.describe(ranks, interval),
                **self._stepper.scaling,
            )
        )
        for message in monitor.find_stragglers(ranks, interval):
            self._emit(WarningRaised(message=message))
        return stops

    def _require_finite(self, value: float, name: str, epoch: int, step: int) -> None:
        # The value is a sum over all ranks, so either every rank raises an error or none does.
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the {name} is {value} at step {step} (epoch {epoch}). The last checkpoint set is from epoch "
                f"{self._state.epoch}. Lower training.lr or lengthen the warm-up, then start from scratch"
            )

    def _finish_epoch(self, epoch: int) -> None:
        """Evaluate and save at the configured intervals. After the last configured epoch, always do both."""
        config, is_last = self._config.Global, epoch == self._config.Global.epochs
        self._replicas.require_equal(self._state.step)
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
            self._emit(evaluated.to_event(epoch, self._state.step, is_best=is_best, balanced_accuracy=balanced))
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
        # moment, the workers would deadlock on it, so wait until the thread is idle.
        self._checkpoints.report(wait=True)
        with self._explaining_memory("evaluation"), self._stepper.evaluated_network() as network:
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

    def _explaining_memory(self, task: Literal["training", "evaluation"]) -> AbstractContextManager[None]:
        return explaining_out_of_memory(self._config, self._ranks.device, task)

    def _update_position(self, step: int, step_in_epoch: int, meters: EpochMeters) -> None:
        """Record that a step has finished. All ranks must call this method, because it combines meters.

        Raises:
            NonFiniteLossError: if the loss has become NaN or infinite since the last report, before a set is saved.
        """
        state = meters.state()
        losses = (values[0] for values in state["interval"])  # of each rank
        self._require_finite(sum(losses), "loss", self._state.epoch + 1, step)
        self._state = replace(self._state, step=step, step_in_epoch=step_in_epoch, meters=state)

    def _save_and_exit(self) -> NoReturn:
        self._checkpoints.save(self._state, is_best=False)
        self._checkpoints.report(wait=True)
        # When one rank exits with an error, the launcher kills all others, so all ranks wait until rank 0 has saved.
        self._ranks.barrier()
        raise RunInterruptedError(self._stop.signal_number or signal.SIGTERM)

    def _emit(self, event: AnyEvent) -> None:
        if self._events is not None:
            self._events.write(event)
