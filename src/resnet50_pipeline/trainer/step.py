"""Runs optimizer steps, and saves and restores the state of the network and the optimizer."""

from __future__ import annotations

import contextlib
import json
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
from resnet50_pipeline.trainer.monitoring.monitor import Monitor
from resnet50_pipeline.trainer.network import (
    build_network,
    compile_network,
    replicated_parameters,
    running_statistics,
)
from resnet50_pipeline.trainer.optimization.ema import ExponentialMovingAverage
from resnet50_pipeline.trainer.optimization.frozen_layers import ThawingLayers
from resnet50_pipeline.trainer.optimization.gradient_tree import GradientTree
from resnet50_pipeline.trainer.optimization.losses import build_loss
from resnet50_pipeline.trainer.optimization.optimizer import build_optimizer, build_schedule
from resnet50_pipeline.trainer.optimization.optimizer_state import (
    optimizer_shapes,
    optimizer_tensors,
    restore_optimizer,
)
from resnet50_pipeline.trainer.optimization.precision import Precision
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.share import share_step
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
        self._share = share_step(config.Global, ranks)
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
        self._tree: GradientTree | None = None
        if config.Global.virtual_ranks and config.Global.deterministic_reduction is not False:
            trained = [parameter for parameter in self._network.parameters() if parameter.trainable]
            self._tree = GradientTree(trained, ranks, self._share)
        self._statistics: list[paddle.Tensor] | None = None
        self._host = HostCopies()
        self.monitor = Monitor(self._network, ranks, config.Global)

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
        """Start sharing gradients between ranks, and copy rank 0's weights to all ranks. Load any weights first."""
        if self._tree is not None:
            self._ranks.copy_from_first(list(self._network.state_dict().values()))
        elif self._ranks.count > 1:
            self._parallel = paddle.DataParallel(self._network)

    def start_epoch(self, epoch: int) -> None:
        """Switch the network to training mode, and freeze or thaw layers for this epoch (1-based)."""
        if self._thawing is not None:
            self._thawing.start_epoch(epoch)
        self._parallel.train()

    @property
    def batches_per_step(self) -> int:
        """The number of batches that this rank trains on per optimizer step."""
        return self._share.batches_per_step

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.get_lr())

    @property
    def scaling(self) -> dict[str, float | None]:
        """The loss scale and the number of skipped steps, as in a `train_step` event."""
        return {"loss_scale": self._precision.loss_scale, "skipped_steps": self._precision.skipped_steps}

    def run(self, batch: Batch, batches: int, *, is_reported: bool = False) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Compute the gradients for a batch, and update the weights after the last batch of a step.

        Args:
            batch: this rank's batch.
            batches: number of batches that this rank has trained on since the start of training.
            is_reported: whether the monitor measures this batch's step. The results do not depend on this value.

        Returns:
            The mean loss over the batch, and the logits [N, class_num].
        """
        # Random numbers on the device, such as those for dropout, depend only on the position in the run. A resumed run
        # generates the same numbers, so checkpoint sets need no generator state.
        virtual_rank, trained = self._share.locate(batches)
        paddle.seed((self._seed << 44 | trained << 12 | virtual_rank) % (1 << 63))
        position = batches % self._share.batches_per_step
        is_update = position + 1 == self._share.batches_per_step
        step = batches // self._share.batches_per_step + 1
        self.monitor.start_batch(step, is_reported=is_reported)
        with self._without_gradient_sync() if not is_update else contextlib.nullcontext():
            with self.monitor.clock.measure("forward"):
                with self._precision.autocast():
                    logits = self._parallel(batch.images)
                loss = self._loss(logits, batch.labels, batch.mixed)
            with self.monitor.clock.measure("backward"):
                self._precision.scale(loss / self._divisor if self._divisor > 1 else loss).backward()
        self._keep_first_statistics(position)
        if self._tree is not None:
            with self.monitor.clock.measure("reduce"):
                self._tree.add_batch(position)
        if is_update:
            self._update()
            self.monitor.finish_step(step)
        return loss, logits

    @property
    def _divisor(self) -> int:
        """The number of batches whose gradients are summed. DataParallel averages over ranks itself."""
        own = self._share.batches_per_step
        return own if self._tree is None else own * self._ranks.count

    def _update(self) -> None:
        clock = self.monitor.clock
        if self._tree is not None and self._ranks.count > 1:
            with clock.measure("reduce"):
                self._tree.add_ranks()
        with clock.measure("optimizer"):
            if self._thawing is not None:
                self._thawing.drop_gradients()
            self._precision.step(self._optimizer, self.monitor.before_update)
            self.monitor.after_update()
            self._optimizer.clear_grad()
            self.schedule.step()
            if self._ema is not None:
                self._ema.update()

    def _keep_first_statistics(self, position: int) -> None:
        """Keep the running statistics of this rank's first virtual rank. On rank 0, that is virtual rank 0."""
        if len(self._share.own) == 1:
            return
        if position + 1 == self._share.update_freq:
            self._statistics = [tensor.clone() for tensor in running_statistics(self._network)]
        elif position + 1 == self._share.batches_per_step and self._statistics is not None:
            with paddle.no_grad():
                for tensor, first in zip(running_statistics(self._network), self._statistics, strict=True):
                    paddle.assign(first, output=tensor)

    @contextlib.contextmanager
    def evaluated_network(self) -> Iterator[paddle.nn.Layer]:
        """Yield the network with the weights to evaluate, which are the averaged weights if the recipe uses EMA."""
        with self._ema.applied() if self._ema is not None else contextlib.nullcontext():
            # Running statistics differ between ranks, because each rank trains on different images. Evaluate with rank
            # 0's statistics everywhere, because these statistics are saved, and predictions must not depend on the
            # number of ranks.
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

    def replicated(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the state that is bit-identical on all ranks as (name, host array), one tensor at a time.

        These are the weights, their averages, the optimizer state, the schedule and the loss scale, but not BatchNorm's
        running statistics or their averages.
        """
        weights = replicated_parameters(self._network)
        for name, tensor in (weights | optimizer_tensors(self._network, self._optimizer)).items():
            yield name, tensor.numpy()
        if self._ema is not None:
            averages = self._ema.named({name: tensor.numpy() for name, tensor in self._ema.tensors.items()})
            for name in weights:
                yield f"{name}/average", averages[name]
        yield "schedule and loss scale", np.frombuffer(json.dumps(self.values(), sort_keys=True).encode(), np.uint8)

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
        if self._parallel is self._network:
            return contextlib.nullcontext()
        no_sync: contextlib.AbstractContextManager[Any] = self._parallel.no_sync()
        return no_sync
