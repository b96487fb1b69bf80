"""One optimizer step: forward, backward, and what follows from the gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle

from resnet50_pipeline.checkpoint_set import EMA, OPTIMIZER, WEIGHTS, Arrays, TrainingState, load_arrays
from resnet50_pipeline.trainer.checkpoint import load_weights
from resnet50_pipeline.trainer.data import Batch
from resnet50_pipeline.trainer.ema import ExponentialMovingAverage
from resnet50_pipeline.trainer.host_copies import HostCopies
from resnet50_pipeline.trainer.losses import build_loss
from resnet50_pipeline.trainer.network import build_network, compile_network, running_statistics
from resnet50_pipeline.trainer.optimizer import (
    build_optimizer,
    optimizer_shapes,
    optimizer_tensors,
    restore_optimizer,
)
from resnet50_pipeline.trainer.precision import Precision
from resnet50_pipeline.trainer.pretrained import Pretrained, load_pretrained
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.schedule import build_schedule
from resnet50_pipeline.training_config import TrainingConfig


class Stepper:
    """The network and everything that moves it."""

    def __init__(self, config: TrainingConfig, ranks: Ranks, steps_per_epoch: int) -> None:
        self._seed, self._ranks = config.Global.seed, ranks
        self._update_freq = config.Global.update_freq
        paddle.seed(self._seed)
        self._network = build_network(config.Arch)
        self._loss = build_loss(config.Loss.Train, config.Arch.class_num)
        self.schedule = build_schedule(config.Optimizer.lr, config.Global.epochs, steps_per_epoch)
        self._optimizer = build_optimizer(config.Optimizer, self.schedule, self._network)
        self._precision = Precision(config.AMP, self._network)
        self._ema = ExponentialMovingAverage(self._network, config.EMA.decay) if config.EMA else None
        if config.Global.to_static:
            compile_network(self._network)
        self._parallel = self._network
        self._host = HostCopies()

    def start_from(self, path: Path) -> Pretrained:
        """Set the weights from a local file or set, before the first step.

        Raises:
            CheckpointError: it is missing, damaged or of another network.
        """
        found = load_pretrained(path, self._network)
        if self._ema is not None:
            self._ema.restart()
        return found

    def connect(self) -> None:
        """Let the ranks share gradients; after the weights are set, for rank 0's are copied to everybody."""
        if self._ranks.count > 1:
            self._parallel = paddle.DataParallel(self._network)

    def train(self) -> None:
        """Return to training mode."""
        self._parallel.train()

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._optimizer.get_lr())

    def run(self, batch: Batch, batches: int) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Learn from a batch; every `Global.update_freq`-th one moves the weights by what has added up.

        Args:
            batch: what to learn from.
            batches: how many this run has learnt from before, since the very beginning.

        Returns:
            The mean loss of the batch, and the logits [N, class_num].
        """
        # What the device draws, as for dropout, is a function of the place in the run: nothing of it has to be saved.
        paddle.seed((self._seed << 44 | batches << 12 | self._ranks.rank) % (1 << 63))
        moves = (batches + 1) % self._update_freq == 0
        with self._adding_up() if not moves else contextlib.nullcontext():
            with self._precision.autocast():
                logits = self._parallel(batch.images)
            loss = self._loss(logits, batch.labels, batch.mixed)
            self._precision.scale(loss / self._update_freq if self._update_freq > 1 else loss).backward()
        if moves:
            self._precision.step(self._optimizer)
            self._optimizer.clear_grad()
            self.schedule.step()
            if self._ema is not None:
                self._ema.update()
        return loss, logits

    @contextlib.contextmanager
    def evaluated_network(self) -> Iterator[paddle.nn.Layer]:
        """Give the network as it is evaluated: with the averaged weights, where the recipe has EMA."""
        with self._ema.applied() if self._ema is not None else contextlib.nullcontext():
            # Each rank's BatchNorm has seen its own images; all take rank 0's statistics, the ones that are saved.
            self._ranks.copy_from_first(running_statistics(self._network))
            yield self._network

    def make_room(self) -> None:
        """Take the memory that `files` copies to, which would cost the first set more than the copy."""
        self._host.make_room(WEIGHTS, {name: tensor.shape for name, tensor in self._network.state_dict().items()})
        self._host.make_room(OPTIMIZER, optimizer_shapes(self._network, self._optimizer))
        if self._ema is not None:
            self._host.make_room(EMA, {name: tensor.shape for name, tensor in self._ema.tensors.items()})

    def files(self) -> dict[str, Arrays]:
        """Return the arrays of a checkpoint set by file, copied to the host; they stand until the next call."""
        files: dict[str, Arrays] = {
            WEIGHTS: self._host.copy(WEIGHTS, self._network.state_dict()),
            OPTIMIZER: self._host.copy(OPTIMIZER, optimizer_tensors(self._network, self._optimizer)),
        }
        if self._ema is not None:
            files[EMA] = self._ema.named(self._host.copy(EMA, self._ema.tensors))
        return files

    def values(self) -> dict[str, Any]:
        """Return what a set has besides arrays, as fields of its `TrainingState`."""
        return {"schedule": self.schedule.state_dict(), "precision": self._precision.values()}

    def restore(self, checkpoint: Path, state: TrainingState) -> None:
        """Set everything from a checkpoint set.

        Raises:
            CheckpointError: the set is of another network, or has no optimizer.
        """
        load_weights(checkpoint, self._network)
        restore_optimizer(self._network, self._optimizer, load_arrays(checkpoint, OPTIMIZER), state.schedule)
        self._precision.restore(state.precision)
        if self._ema is not None:
            self._ema.restore(load_arrays(checkpoint, EMA))

    def schedule_after(self, steps: int) -> dict[str, Any]:
        """Return the schedule's state after so many finished steps."""
        self.schedule.step(steps)
        state: dict[str, Any] = self.schedule.state_dict()
        return state

    def _adding_up(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which ranks keep their gradients to themselves."""
        if self._ranks.count == 1:
            return contextlib.nullcontext()
        alone: contextlib.AbstractContextManager[Any] = self._parallel.no_sync()
        return alone
