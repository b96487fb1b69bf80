"""Performs optimizer steps, and saves and restores the state of the network and the optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.checkpoint_set import EMA, OPTIMIZER, WEIGHTS, Arrays, TrainingState, load_arrays
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.checkpoints.host_copies import HostCopies
from resnet50_pipeline.trainer.checkpoints.pretrained import Pretrained, load_pretrained
from resnet50_pipeline.trainer.checkpoints.weights import load_weights
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.network import build_network, compile_network, running_statistics
from resnet50_pipeline.trainer.optimization.ema import ExponentialMovingAverage
from resnet50_pipeline.trainer.optimization.frozen_layers import ThawingLayers
from resnet50_pipeline.trainer.optimization.losses import build_loss
from resnet50_pipeline.trainer.optimization.optimizer import build_optimizer, build_schedule
from resnet50_pipeline.trainer.optimization.optimizer_state import (
    optimizer_shapes,
    optimizer_tensors,
    restore_optimizer,
)
from resnet50_pipeline.trainer.optimization.precision import Precision
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.small_maps import speed_up_small_maps


class Stepper:
    """Trains a network. Owns the network, loss, optimizer, schedule, mixed precision and averaged weights."""

    def __init__(
        self,
        config: TrainingConfig,
        ranks: Ranks,
        steps_per_epoch: int,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._seed, self._ranks = config.Global.seed, ranks
        self._update_freq = config.Global.update_freq
        paddle.seed(self._seed)
        self._network = build_network(config.Arch)
        thaw_epoch = config.Arch.thaw_epoch
        self._thawing = ThawingLayers(self._network, config.Arch.freeze, thaw_epoch) if thaw_epoch else None
        self._loss = build_loss(config.Loss.Train, config.Arch.class_num, class_weights)
        self.schedule = build_schedule(config.Optimizer.lr, config.Global.epochs, steps_per_epoch)
        self._optimizer = build_optimizer(
            config.Optimizer, self.schedule, self._network, all_at_once=self._thawing is None
        )
        self._precision = Precision(config.AMP, self._network)
        self._ema = ExponentialMovingAverage(self._network, config.EMA.decay) if config.EMA else None
        if config.Global.to_static:
            compile_network(self._network)
        else:
            speed_up_small_maps(self._network)
        self._parallel = self._network
        self._host = HostCopies()

    def start_from(self, path: Path) -> Pretrained:
        """Load pretrained weights from a local file or checkpoint set. Call this before the first step.

        Raises:
            CheckpointError: if the file or set is missing, damaged or from another network.
        """
        found = load_pretrained(path, self._network)
        if self._ema is not None:
            self._ema.restart()
        return found

    def connect(self) -> None:
        """Let the ranks share gradients, and copy rank 0's weights to all ranks. Load weights before calling this."""
        if self._ranks.count > 1:
            self._parallel = paddle.DataParallel(self._network)

    def start_epoch(self, epoch: int) -> None:
        """Switch the network to training mode, and freeze or thaw layers for this epoch (1-based)."""
        if self._thawing is not None:
            self._thawing.start_epoch(epoch)
        self._parallel.train()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.get_lr())

    def run(self, batch: Batch, batches: int) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Compute the gradients of a batch. Update the weights after every `Global.update_freq` batches.

        Args:
            batch: batch of this rank.
            batches: number of batches that this rank has trained on since the start of training.

        Returns:
            The mean loss of the batch, and the logits [N, class_num].
        """
        # Random numbers on the device, such as those for dropout, depend only on the position in the run. A resumed run
        # repeats them, so the checkpoint set does not have to include a generator state.
        paddle.seed((self._seed << 44 | batches << 12 | self._ranks.rank) % (1 << 63))
        is_update = (batches + 1) % self._update_freq == 0
        with self._without_gradient_sync() if not is_update else contextlib.nullcontext():
            with self._precision.autocast():
                logits = self._parallel(batch.images)
            loss = self._loss(logits, batch.labels, batch.mixed)
            self._precision.scale(loss / self._update_freq if self._update_freq > 1 else loss).backward()
        if is_update:
            if self._thawing is not None:
                self._thawing.drop_gradients()
            self._precision.step(self._optimizer)
            self._optimizer.clear_grad()
            self.schedule.step()
            if self._ema is not None:
                self._ema.update()
        return loss, logits

    @contextlib.contextmanager
    def evaluated_network(self) -> Iterator[paddle.nn.Layer]:
        """Yield the network with the weights to evaluate. These are the averaged weights if the recipe uses EMA."""
        with self._ema.applied() if self._ema is not None else contextlib.nullcontext():
            # Running statistics differ between ranks, because each rank trains on different images. All ranks evaluate
            # with the statistics of rank 0, which are also saved. Otherwise, predictions would depend on the number of
            # ranks.
            self._ranks.copy_from_first(running_statistics(self._network))
            yield self._network

    def reserve_host_memory(self) -> None:
        """Allocate the host memory for `files`, so that the first checkpoint set does not stall training."""
        self._host.reserve(WEIGHTS, {name: tensor.shape for name, tensor in self._network.state_dict().items()})
        self._host.reserve(OPTIMIZER, optimizer_shapes(self._network, self._optimizer))
        if self._ema is not None:
            self._host.reserve(EMA, {name: tensor.shape for name, tensor in self._ema.tensors.items()})

    def files(self) -> dict[str, Arrays]:
        """Copy the state to host memory and return the arrays, keyed by file name. The next call overwrites them."""
        files: dict[str, Arrays] = {
            WEIGHTS: self._host.copy(WEIGHTS, self._network.state_dict()),
            OPTIMIZER: self._host.copy(OPTIMIZER, optimizer_tensors(self._network, self._optimizer)),
        }
        if self._ema is not None:
            files[EMA] = self._ema.named(self._host.copy(EMA, self._ema.tensors))
        return files

    def values(self) -> dict[str, Any]:
        """Return the fields of `TrainingState` that belong to the optimizer: schedule and precision."""
        return {"schedule": self.schedule.state_dict(), "precision": self._precision.values()}

    def restore(self, checkpoint: Path, state: TrainingState) -> None:
        """Restore weights, optimizer, schedule, precision and average from a checkpoint set.

        Raises:
            CheckpointError: if the set is from another network or has no optimizer state.
        """
        load_weights(checkpoint, self._network)
        frozen: frozenset[str] = frozenset()
        if self._thawing is not None:
            # Parameters that were still frozen when the set was saved have no optimizer state.
            self._thawing.start_epoch(state.epoch + 1 if state.step_in_epoch else state.epoch)
            frozen = self._thawing.frozen
        arrays = load_arrays(checkpoint, OPTIMIZER)
        restore_optimizer(self._network, self._optimizer, arrays, state.schedule, without=frozen)
        self._precision.restore(state.precision)
        if self._ema is not None:
            self._ema.restore(load_arrays(checkpoint, EMA))

    def schedule_after(self, steps: int) -> dict[str, Any]:
        """Set the schedule to the position after `steps` steps, and return its state."""
        self.schedule.step(steps)
        state: dict[str, Any] = self.schedule.state_dict()
        return state

    def _without_gradient_sync(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager that disables the synchronization of gradients between ranks."""
        if self._ranks.count == 1:
            return contextlib.nullcontext()
        no_sync: contextlib.AbstractContextManager[Any] = self._parallel.no_sync()
        return no_sync
