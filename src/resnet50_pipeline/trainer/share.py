"""Divides the batches of an optimizer step among the ranks."""

from __future__ import annotations

from dataclasses import dataclass

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.run import GlobalConfig
from resnet50_pipeline.recipe.virtual_ranks import can_share, tree_width
from resnet50_pipeline.trainer.ranks import Ranks


@dataclass(frozen=True)
class Share:
    """A rank's share of each optimizer step.

    A step is divided among virtual ranks. Everything that affects the weights (images, BatchNorm statistics and random
    numbers) depends on the virtual rank, not on the rank that computes it. By default, each rank is one virtual rank.

    Attributes:
        virtual_ranks: total number of virtual ranks.
        own: virtual ranks that this rank computes.
        update_freq: batches per step of each virtual rank.
    """

    virtual_ranks: int
    own: range
    update_freq: int = 1

    @property
    def batches_per_step(self) -> int:
        """The number of batches that this rank trains on per step."""
        return len(self.own) * self.update_freq

    def locate(self, batches: int) -> tuple[int, int]:
        """Return the virtual rank of a batch, and the number of batches that this virtual rank has trained on before.

        Args:
            batches: number of batches that this rank has trained on since the start of training.
        """
        step, position = divmod(batches, self.batches_per_step)
        number, batch = divmod(position, self.update_freq)
        return self.own[number], step * self.update_freq + batch


def share_step(config: GlobalConfig, ranks: Ranks) -> Share:
    """Return this rank's share.

    Raises:
        TrainingConfigError: if the ranks cannot share the configured number of virtual ranks.
    """
    virtual_ranks, deterministic = config.virtual_ranks or ranks.count, config.deterministic_reduction is not False
    if config.virtual_ranks and not can_share(virtual_ranks, ranks.count, deterministic=deterministic):
        raise TrainingConfigError(
            f"Global.virtual_ranks: {ranks.count} ranks cannot share {virtual_ranks} virtual ranks; use "
            f"{tree_width(virtual_ranks)} ranks, or set training.virtual_ranks: null"
        )
    each = virtual_ranks // ranks.count
    return Share(virtual_ranks, range(ranks.rank * each, (ranks.rank + 1) * each), config.update_freq)
