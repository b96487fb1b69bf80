"""The saver writes only sets that a run can resume from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from resnet50_pipeline.checkpoint_set import OPTIMIZER, WEIGHTS, Snapshot, TrainingState
from resnet50_pipeline.exceptions import NonFiniteLossError
from resnet50_pipeline.trainer.checkpoints.saver import CheckpointSaver
from resnet50_pipeline.training_dir import best_path, checkpoint_paths


def make_snapshot(epoch: int, weight: float) -> Snapshot:
    arrays = {"conv.weight": np.zeros((3, 4), np.float32), "fc.weight": np.array([1.0, weight], np.float32)}
    state = TrainingState(epoch, 2 * epoch, 0, 2, 1, epoch, 0.5, {}, {}, "3")
    return Snapshot(state, {WEIGHTS: arrays, OPTIMIZER: arrays})


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf])
def test_a_set_with_weights_that_are_not_finite_is_refused(tmp_path: Path, weight: float):
    """The error names the step and the weight. The earlier set stays the newest and the best, even with `keep=1`."""
    saver = CheckpointSaver(tmp_path, keep=1)
    saver.save(make_snapshot(1, 1.0), is_best=True, stall_seconds=0.0)
    saver.wait()
    saver.save(make_snapshot(2, weight), is_best=True, stall_seconds=0.0)
    with pytest.raises(NonFiniteLossError, match=r"after step 4 \(epoch 2\): fc\.weight\."):
        saver.wait()
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["epoch-0001"]
    assert json.loads(best_path(tmp_path).read_text())["epoch"] == 1
