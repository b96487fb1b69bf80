"""Sums the margins of the training images. The sums are saved in the checkpoint sets.

The margin of an image is the logit of its label minus the largest other logit. Averaged over all forward passes of
training, it is the area under the margin (AUM) of Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under
the Margin Ranking". The network computes the logits anyway, so the margins need no extra pass.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist
from numpy.typing import NDArray

from resnet50_pipeline.checkpoint_set import MARGINS, load_arrays
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.ranks import Ranks


def compute_margins(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Return the margins for a batch, float32 [N].

    Args:
        logits: [N, class_num], with at least two classes.
        labels: int64 [N].
    """
    logits = logits.detach().astype("float32")
    largest, classes = paddle.topk(logits, 2, axis=1)
    other = paddle.where(classes[:, 0] == labels, largest[:, 1], largest[:, 0])
    return paddle.take_along_axis(logits, labels.reshape([-1, 1]), axis=1)[:, 0] - other


class Margins:
    """The sum of the margins and the number of forward passes for each image in the train list.

    Every rank has an instance. `add` does not wait for the device. The sums are float64 and exact to about 15 digits,
    so in practice they do not depend on the number of ranks.
    """

    def __init__(self, images: int, ranks: Ranks) -> None:
        self._ranks = ranks
        self._pending: list[tuple[paddle.Tensor, paddle.Tensor]] = []
        # Row 0 contains sums, and row 1 contains numbers of passes. Rank 0 keeps the totals for all ranks.
        self._own: NDArray[np.float64] = np.zeros((2, images))
        self._totals: NDArray[np.float64] = np.zeros((2, images) if ranks.is_first else (2, 0))

    def resume(self, checkpoint: str | None, step: int) -> list[str]:
        """Load the sums from a checkpoint set, if there is one. Return a warning if the set has no sums.

        Args:
            checkpoint: folder of the set that the run resumes from, or None.
            step: step that the run resumes at, for the warning.

        Raises:
            CheckpointError: if the file is missing although the set contains it.
        """
        if checkpoint is None:
            return []
        if not (Path(checkpoint) / MARGINS).is_file():
            return [
                f"{checkpoint} was saved without training.record_margins, so the margins cover only the steps after "
                f"step {step}"
            ]
        if self._ranks.is_first:
            arrays = load_arrays(Path(checkpoint), MARGINS)
            self._totals = np.stack([arrays["sums"], arrays["passes"]]).astype(np.float64)
        return []

    def add(self, logits: paddle.Tensor, batch: Batch) -> None:
        """Add the margins of a batch that was not mixed. The margins stay on the device until `fetch`.

        If an unreadable image was replaced, its replacement's margin is added to the replacement's row.
        """
        self._pending.append((compute_margins(logits, batch.labels), batch.index))

    def fetch(self) -> None:
        """Copy the margins from the device and add them to this rank's sums. Waits for the device."""
        if not self._pending:
            return
        margins, rows = (paddle.concat(tensors).numpy() for tensors in zip(*self._pending, strict=True))
        self._pending = []
        np.add.at(self._own[0], rows, margins.astype(np.float64))
        np.add.at(self._own[1], rows, 1.0)

    def combine(self) -> dict[str, NDArray[np.float64]] | None:
        """Add the sums of all ranks to the totals. Return a copy on rank 0, and None elsewhere.

        All ranks must call this method.

        Returns:
            The arrays for a checkpoint set, in list order: `sums`, float64 [N], and `passes`, float64 [N].
        """
        self.fetch()
        if self._ranks.count > 1:
            shared = paddle.to_tensor(self._own)
            dist.all_reduce(shared)
            self._own = shared.numpy()
        if self._ranks.is_first:
            self._totals += self._own
        self._own = np.zeros_like(self._own)
        if not self._ranks.is_first:
            return None
        sums, passes = self._totals.copy()
        return {"sums": sums, "passes": passes}
