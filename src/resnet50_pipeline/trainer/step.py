"""One optimizer step: forward, backward, and what follows from the gradients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation

from resnet50_pipeline.trainer.checkpoint import OPTIMIZER, WEIGHTS, Arrays, copy_to_host, load_arrays, load_weights
from resnet50_pipeline.trainer.data import Batch
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.optimizer import build_optimizer, build_schedule, optimizer_arrays, restore_optimizer
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.training_config import TrainingConfig


class Stepper:
    """The network and everything that moves it."""

    def __init__(self, config: TrainingConfig, ranks: Ranks, steps_per_epoch: int) -> None:
        self._seed, self._ranks = config.Global.seed, ranks
        self._class_num = config.Arch.class_num
        self._epsilon = config.Loss.Train[0].CELoss.epsilon
        paddle.seed(self._seed)
        self.network = build_network(config.Arch)
        self.schedule = build_schedule(config.Optimizer.lr, config.Global.epochs, steps_per_epoch)
        self._optimizer = build_optimizer(config.Optimizer, self.schedule, self.network)
        self._parallel = self.network

    def connect(self) -> None:
        """Let the ranks share gradients; after the weights are set, for rank 0's are copied to everybody."""
        if self._ranks.count > 1:
            self._parallel = paddle.DataParallel(self.network)

    def train(self) -> None:
        """Return to training mode."""
        self._parallel.train()

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._optimizer.get_lr())

    def run(self, batch: Batch, step: int) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Take one step; return the mean loss of the batch, and the logits [N, class_num].

        Args:
            batch: what to learn from.
            step: finished steps since the very beginning.
        """
        # What the device draws, as for dropout, is a function of the place in the run: nothing of it has to be saved.
        paddle.seed((self._seed << 44 | step << 12 | self._ranks.rank) % (1 << 63))
        logits = self._parallel(batch.images)
        loss = self._loss(logits, batch.labels)
        loss.backward()
        self._optimizer.step()
        self._optimizer.clear_grad()
        self.schedule.step()
        return loss, logits

    def _loss(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Return the mean cross entropy, labels smoothed by `epsilon` where given (ppcls/loss/celoss.py)."""
        if self._epsilon is None:
            return F.cross_entropy(logits, labels.reshape([-1, 1]))
        target = F.label_smooth(F.one_hot(labels, self._class_num), epsilon=self._epsilon)
        return F.cross_entropy(logits, target, soft_label=True)

    def files(self) -> dict[str, Arrays]:
        """Return the arrays of a checkpoint set by file, copied to the host."""
        return {
            WEIGHTS: copy_to_host(self.network.state_dict()),
            OPTIMIZER: optimizer_arrays(self.network, self._optimizer),
        }

    def restore(self, checkpoint: Path, schedule: Mapping[str, Any]) -> None:
        """Set everything from a checkpoint set.

        Raises:
            CheckpointError: the set is of another network, or has no optimizer.
        """
        load_weights(checkpoint, self.network)
        restore_optimizer(self.network, self._optimizer, load_arrays(checkpoint, OPTIMIZER), schedule)
