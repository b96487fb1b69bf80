"""Reads the lists for a training run and builds a rank's loaders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle

from resnet50_pipeline.events import Started
from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.data.dali import build_train_loader
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.data.sampling import EvalBatches, TrainBatches
from resnet50_pipeline.trainer.optimization.class_weights import compute_class_weights
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.share import share_step


def steps_per_epoch(batches: int, update_freq: int) -> int:
    """Return the number of optimizer steps per epoch.

    As in upstream, leftover batches that do not fill a step are dropped.

    Args:
        batches: batches per epoch on each rank.
        update_freq: batches per optimizer step.

    Raises:
        TrainingConfigError: if an epoch is shorter than one step.
    """
    if batches < update_freq:
        raise TrainingConfigError(
            f"Global.update_freq: a step needs {update_freq} batches, but an epoch has only {batches} per rank; "
            f"lower training.update_freq or training.batch_size_per_rank"
        )
    return batches // update_freq


class RunData:
    """A rank's loaders and the sizes of the splits.

    Attributes:
        lists: entries in both lists, keyed by the section in `config.DataLoader`.
        train_images: number of images in the train list.
        val_images: number of images in the val list.
        balanced_images: number of images in a class-balanced epoch, or None if an epoch follows the train list.
        class_weights: float32 [class_num], weight of each class in the loss, or None if the loss is not weighted.
        steps_per_epoch: optimizer steps per epoch.
        train_batches: sampler of `train_loader`. Set its `epoch` and `start_step` before each iteration.
        train_loader: loader for this rank's train batches in an epoch.
        val_loader: loader for this rank's val batches.
    """

    def __init__(self, config: TrainingConfig, ranks: Ranks) -> None:
        self._config, self._ranks = config.Global, ranks
        splits, class_num, seed = config.DataLoader, config.Arch.class_num, config.Global.seed
        train = read_list_file(Path(splits.Train.dataset.cls_label_path), class_num=class_num)
        val = read_list_file(Path(splits.Eval.dataset.cls_label_path), class_num=class_num)
        self.lists = {"Train": train, "Eval": val}
        self.train_images, self.val_images = len(train), len(val)
        self.train_batches = TrainBatches(
            len(train), splits.Train, share_step(config.Global, ranks), seed, train.labels
        )
        per_class = splits.Train.sampler.images_per_class
        self.balanced_images = None if per_class is None else per_class * len(np.unique(train.labels))
        loss = config.Loss.Train[0].CELoss
        images_of_class = np.bincount(train.labels, minlength=class_num)
        self.class_weights = None if loss is None else compute_class_weights(loss, images_of_class)
        self.steps_per_epoch = steps_per_epoch(self.train_batches.steps_per_epoch, config.Global.update_freq)
        # Do not load leftover batches that do not fill an optimizer step.
        self.train_batches.steps_per_epoch = self.steps_per_epoch * config.Global.update_freq
        self._train_data = ListDataset(train, splits.Train, seed)
        self.train_loader = build_train_loader(self._train_data, self.train_batches, config, ranks.device)
        val_batches = EvalBatches(len(val), splits.Eval.sampler.batch_size, ranks)
        self.val_loader = Loader(ListDataset(val, splits.Eval, seed), val_batches, splits.Eval)

    def started(self, first_step: int) -> Started:
        """Return the first event of a run. `first_step` is the number of steps that earlier processes finished."""
        return Started(
            ranks=self._ranks.count,
            device=self._config.device,
            epochs=self._config.epochs,
            steps_per_epoch=self.steps_per_epoch,
            train_images=self.train_images,
            val_images=self.val_images,
            first_step=first_step,
            paddle_version=paddle.__version__,
            images_per_epoch=self.balanced_images,
            class_weights=None if self.class_weights is None else tuple(self.class_weights.tolist()),
        )

    def warnings(self) -> list[str]:
        """Return the warnings to report before the first epoch."""
        found = [*self.train_batches.warnings(), *self._train_data.warnings()]
        steps, profiled = self._config.epochs * self.steps_per_epoch, self._config.profile_steps
        if profiled is not None and profiled[0] > steps:
            found.append(
                f"training.profile_steps is {list(profiled)}, but training has only {steps} steps, so nothing is "
                "profiled; choose earlier steps"
            )
        return found
