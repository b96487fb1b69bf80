"""What a training sees: both lists, the batches of its rank, and how many steps an epoch has."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.trainer.dali import build_train_loader
from resnet50_pipeline.trainer.data import ListDataset, Loader
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.sampling import EvalBatches, TrainBatches
from resnet50_pipeline.trainer.schedule import steps_per_epoch
from resnet50_pipeline.training_config import TrainingConfig


class RunData:
    """The loaders of one rank.

    Attributes:
        train_images: length of the train list.
        val_images: length of the val list.
        steps_per_epoch: optimizer steps.
        train_batches: say which images the next iteration of `train_loader` loads.
        train_loader: the batches of an epoch, or of what is left of it.
        val_loader: this rank's part of the val list.
    """

    def __init__(self, config: TrainingConfig, ranks: Ranks) -> None:
        splits, class_num, seed = config.DataLoader, config.Arch.class_num, config.Global.seed
        train = read_list_file(Path(splits.Train.dataset.cls_label_path), class_num=class_num)
        val = read_list_file(Path(splits.Eval.dataset.cls_label_path), class_num=class_num)
        self.train_images, self.val_images = len(train), len(val)
        self.train_batches = TrainBatches(len(train), splits.Train, ranks, seed)
        self.steps_per_epoch = steps_per_epoch(self.train_batches.steps_per_epoch, config.Global.update_freq)
        # Batches that do not make a step are not trained on.
        self.train_batches.steps_per_epoch = self.steps_per_epoch * config.Global.update_freq
        self._train_data = ListDataset(train, splits.Train, seed)
        self.train_loader = build_train_loader(self._train_data, self.train_batches, config, ranks.device)
        val_batches = EvalBatches(len(val), splits.Eval.sampler.batch_size, ranks)
        self.val_loader = Loader(ListDataset(val, splits.Eval, seed), val_batches, splits.Eval)

    def warnings(self) -> list[str]:
        """Return what to know before the first epoch."""
        return [*self.train_batches.warnings(), *self._train_data.warnings()]
