"""The training loop: forward, backward, step; events at print steps; evaluation and a checkpoint set at epoch ends."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import paddle

from resnet50_pipeline.events import (
    AnyEvent,
    CheckpointSaved,
    EpochEnd,
    EvalEnd,
    EventWriter,
    Finished,
    Started,
    TrainStep,
)
from resnet50_pipeline.exceptions import NonFiniteLossError
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.trainer import checkpoint as sets
from resnet50_pipeline.trainer.data import EvalBatches, ListDataset, Loader, TrainBatches
from resnet50_pipeline.trainer.evaluation import predict
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.losses import build_loss
from resnet50_pipeline.trainer.meters import Meters
from resnet50_pipeline.trainer.network import build_network, running_statistics
from resnet50_pipeline.trainer.optimizer import build_optimizer, build_schedule
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.recipe import describe_recipe, require_same_recipe
from resnet50_pipeline.training_config import TrainingConfig
from resnet50_pipeline.training_dir import checkpoint_path, events_path


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
        self._output_dir = Path(config.Global.output_dir)
        paddle.seed(config.Global.seed)
        self._network = build_network(config.Arch)
        self._loss = build_loss(config.Loss.Train, config.Arch.class_num)
        self._build_data()
        steps_per_epoch = self._train_batches.steps_per_epoch
        self._schedule = build_schedule(config.Optimizer.lr, config.Global.epochs, steps_per_epoch)
        self._optimizer = build_optimizer(config.Optimizer, self._schedule, self._network)
        self._state = self._initial_state()
        # After the weights are set: DataParallel copies rank 0's to everybody.
        self._parallel = paddle.DataParallel(self._network) if ranks.count > 1 else self._network
        self._events = EventWriter(events_path(self._output_dir)) if ranks.is_first else None

    def execute(self) -> None:
        """Train to the last epoch.

        Raises:
            NonFiniteLossError: the loss became NaN or infinite; the checkpoints are those of before.
        """
        started = time.perf_counter()
        self._tell(
            Started(
                ranks=self._ranks.count,
                device=self._config.Global.device,
                epochs=self._config.Global.epochs,
                steps_per_epoch=self._train_batches.steps_per_epoch,
                train_images=len(self._train_data),
                val_images=len(self._val_data),
                first_step=self._state.step,
                paddle_version=paddle.__version__,
            )
        )
        images, seconds = 0.0, 0.0
        for epoch in range(self._state.epoch + 1, self._config.Global.epochs + 1):
            trained = self._train_epoch(epoch)
            images, seconds = images + trained.images_per_second * trained.seconds, seconds + trained.seconds
            self._finish_epoch(epoch)
        self._tell(
            Finished(
                epochs=self._config.Global.epochs,
                step=self._state.step,
                best_epoch=self._state.best_epoch,
                best_top1=self._state.best_top1,
                seconds=time.perf_counter() - started,
                images_per_second=images / seconds if seconds else 0.0,
            )
        )

    def _build_data(self) -> None:
        splits, class_num = self._config.DataLoader, self._config.Arch.class_num
        seed = self._config.Global.seed
        train = read_list_file(Path(splits.Train.dataset.cls_label_path), class_num=class_num)
        val = read_list_file(Path(splits.Eval.dataset.cls_label_path), class_num=class_num)
        self._train_data = ListDataset(train, splits.Train, seed)
        self._val_data = ListDataset(val, splits.Eval, seed)
        self._train_batches = TrainBatches(len(train), splits.Train, self._ranks, seed)
        self._train_loader = Loader(self._train_data, self._train_batches, splits.Train)
        val_batches = EvalBatches(len(val), splits.Eval.sampler.batch_size, self._ranks)
        self._val_loader = Loader(self._val_data, val_batches, splits.Eval)

    def _initial_state(self) -> sets.TrainingState:
        """Return the state to go on from, the network and optimizer set to it."""
        config = self._config
        fresh = sets.TrainingState(
            epoch=0,
            step=0,
            best_epoch=0,
            best_top1=-1.0,
            schedule=self._schedule.state_dict(),
            recipe=describe_recipe(config, self._ranks.count),
            paddle_version=paddle.__version__,
        )
        if config.Global.checkpoints is None:
            return fresh
        path = Path(config.Global.checkpoints)
        state = sets.read_state(path)
        require_same_recipe(path, state.recipe, fresh.recipe)
        sets.load_weights(path, self._network)
        sets.load_optimizer(path, self._network, self._optimizer, state)
        if self._ranks.is_first and state.best_epoch:
            # A run killed between the set and the naming of the best left the name of the one before.
            sets.mark_best(self._output_dir, state)
        return replace(state, paddle_version=paddle.__version__)

    def _train_epoch(self, epoch: int) -> EpochEnd:
        self._parallel.train()
        self._train_batches.epoch = epoch
        interval, whole = Meters(), Meters()
        step, waiting_since = self._state.step, time.perf_counter()
        for batch in self._train_loader:
            loaded = time.perf_counter()
            logits = self._parallel(batch.images)
            loss = self._loss(logits, batch.labels, batch.mixed)
            loss.backward()
            self._optimizer.step()
            self._optimizer.clear_grad()
            learning_rate = self._optimizer.get_lr()
            self._schedule.step()
            step += 1
            interval.add(loss, logits, batch.labels, reader_seconds=loaded - waiting_since)
            self._heartbeat.beat()
            if step % self._config.Global.print_batch_step == 0:
                self._report_step(epoch, step, learning_rate, interval)
                whole.merge(interval)
                interval = Meters()
            waiting_since = time.perf_counter()
        self._report_step(epoch, step, learning_rate, interval)
        whole.merge(interval)
        self._state = replace(self._state, step=step)
        means = whole.means(self._ranks)
        event = EpochEnd(
            epoch=epoch,
            step=step,
            loss=means.loss,
            top1=means.top1,
            images_per_second=means.images_per_second,
            seconds=means.seconds,
        )
        self._tell(event)
        return event

    def _report_step(self, epoch: int, step: int, learning_rate: float, interval: Meters) -> None:
        if interval.steps == 0:
            return
        means = interval.means(self._ranks)
        self._require_finite(means.loss, "loss", epoch, step)
        self._tell(
            TrainStep(
                step=step,
                epoch=epoch,
                loss=means.loss,
                top1=means.top1,
                learning_rate=learning_rate,
                images_per_second=means.images_per_second,
                reader_seconds=means.reader_seconds,
                batch_seconds=means.batch_seconds,
            )
        )

    def _require_finite(self, value: float, what: str, epoch: int, step: int | None = None) -> None:
        # Every rank has the same sum, so every rank stops here, or none.
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the {what} is {value} at step {step or self._state.step} (epoch {epoch}); the last checkpoint set is "
                f"that of epoch {self._state.epoch}: lower training.lr or lengthen its warm-up, and start anew"
            )

    def _finish_epoch(self, epoch: int) -> None:
        """Evaluate and save where the intervals say so; the last epoch always has both."""
        config, last = self._config.Global, epoch == self._config.Global.epochs
        is_best = False
        if last or epoch % config.eval_interval == 0:
            found = self._evaluate()
            self._require_finite(found.loss, "val loss", epoch)
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
        self._state = replace(self._state, epoch=epoch, schedule=self._schedule.state_dict())
        if last or is_best or epoch % config.save_interval == 0:
            self._save(is_best)

    def _evaluate(self) -> Evaluated:
        # Each rank's BatchNorm has seen its own images; all evaluate with rank 0's statistics, the ones that are saved.
        self._ranks.copy_from_first(running_statistics(self._network))
        started = time.perf_counter()
        found = predict(self._network, self._val_loader, min(5, self._config.Arch.class_num), self._heartbeat)
        images, loss, top1, top5 = (float(value) for value in self._ranks.sum(found.sums))
        return Evaluated(
            images=int(images),
            loss=loss / images,
            top1=top1 / images,
            top5=top5 / images,
            images_per_second=images / (time.perf_counter() - started),
        )

    def _save(self, is_best: bool) -> None:
        if self._ranks.is_first:
            started = time.perf_counter()
            path = checkpoint_path(self._output_dir, self._state.epoch)
            sets.save_checkpoint(path, self._network, self._optimizer, self._state)
            if is_best:
                sets.mark_best(self._output_dir, self._state)
            sets.prune_checkpoints(self._output_dir, self._config.Global.keep_checkpoints, self._state.best_epoch)
            self._tell(
                CheckpointSaved(
                    epoch=self._state.epoch,
                    step=self._state.step,
                    path=str(path.relative_to(self._output_dir)),
                    seconds=time.perf_counter() - started,
                    is_best=is_best,
                )
            )
        self._ranks.barrier()

    def _tell(self, event: AnyEvent) -> None:
        if self._events is not None:
            self._events.write(event)
