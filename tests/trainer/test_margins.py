"""Margins of a batch, and their sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from resnet50_pipeline.trainer.checkpoints.margins import Margins, compute_margins
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.ranks import Ranks

LOGITS = [[3.0, 1.0, 2.5], [3.0, 1.0, 2.5], [-1.0, -1.0, -4.0], [0.5, 2.0, 2.0]]
LABELS = [0, 1, 1, 0]
MARGINS = [0.5, -2.0, 0.0, -1.5]


def batch_of(labels: list[int], rows: list[int]) -> Batch:
    empty = paddle.zeros([len(rows), 3, 1, 1])
    return Batch(images=empty, labels=paddle.to_tensor(labels), index=paddle.to_tensor(rows))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_margin_is_own_logit_minus_largest_other(dtype: str):
    """The margin is positive if the label has the largest logit, 0 for a tie, and negative otherwise."""
    logits = paddle.to_tensor(LOGITS).astype(dtype)
    logits.stop_gradient = False
    margins = compute_margins(logits, paddle.to_tensor(LABELS))
    assert margins.numpy().tolist() == MARGINS
    assert margins.dtype == paddle.float32
    assert margins.stop_gradient


def test_sums_count_repeated_rows():
    """An image that occurs twice, within a batch or in two batches, is counted twice."""
    margins = Margins(5, Ranks(rank=0, count=1, device="cpu"))
    margins.add(paddle.to_tensor(LOGITS), batch_of(LABELS, [4, 0, 4, 2]))
    margins.fetch()
    margins.add(paddle.to_tensor(LOGITS[:1]), batch_of(LABELS[:1], [0]))
    saved = margins.combine()
    assert saved is not None
    assert saved["sums"].tolist() == [-1.5, 0, -1.5, 0, 0.5]
    assert saved["passes"].tolist() == [2, 0, 1, 0, 2]


def test_saved_sums_do_not_change_with_later_batches(tmp_path: Path):
    """A checkpoint set is written while training continues, and a resumed run starts with the saved sums."""
    ranks = Ranks(rank=0, count=1, device="cpu")
    margins = Margins(2, ranks)
    margins.add(paddle.to_tensor(LOGITS[:2]), batch_of(LABELS[:2], [0, 1]))
    saved = margins.combine()
    assert saved is not None
    margins.add(paddle.to_tensor(LOGITS[:1]), batch_of(LABELS[:1], [1]))
    later = margins.combine()
    assert later is not None
    assert saved["sums"].tolist() == [0.5, -2.0]
    assert later["sums"].tolist() == [0.5, -1.5]
    save_file(saved, tmp_path / "margins.safetensors")
    resumed = Margins(2, ranks)
    assert resumed.resume(str(tmp_path), step=7) == []
    resumed.add(paddle.to_tensor(LOGITS[:1]), batch_of(LABELS[:1], [1]))
    combined = resumed.combine()
    assert combined is not None
    for name, array in combined.items():
        np.testing.assert_array_equal(array, later[name])
