"""Host copies contain the tensors' values, and every copy uses the same memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from resnet50_pipeline.checkpoint_set import WEIGHTS, Snapshot, TrainingState
from resnet50_pipeline.trainer.checkpoints import saver
from resnet50_pipeline.trainer.checkpoints.host_copies import HostCopies


def tensors(seed: int) -> dict[str, paddle.Tensor]:
    random = np.random.default_rng(seed)
    shapes = {"conv": [4, 3, 3, 3], "bias": [5], "power": [1], "number": []}
    return {name: paddle.to_tensor(random.random(shape, dtype=np.float32)) for name, shape in shapes.items()}


def test_copies_keep_their_values_when_tensors_change():
    """Later steps, which change tensors in place, do not change a copy."""
    source = tensors(1)
    expected = {name: tensor.numpy().copy() for name, tensor in source.items()}
    copies = HostCopies().copy("weights", source)
    for tensor in source.values():
        tensor.scale_(2.0)
    assert copies.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(copies[name], array, err_msg=name, strict=True)


def test_next_copy_uses_the_same_memory():
    """The second copy overwrites the first, in memory that was reserved earlier."""
    host = HostCopies()
    host.reserve("weights", {name: tensor.shape for name, tensor in tensors(1).items()})
    first = host.copy("weights", tensors(1))
    addresses = {name: array.ctypes.data for name, array in first.items()}
    second = host.copy("weights", tensors(2))
    assert {name: array.ctypes.data for name, array in second.items()} == addresses
    for name, tensor in tensors(2).items():
        np.testing.assert_array_equal(first[name], tensor.numpy(), err_msg=name)


def test_files_do_not_share_memory():
    """Tensors with the same name in two files, such as weights and their average, have separate memory."""
    host = HostCopies()
    weights, average = host.copy("weights", tensors(1)), host.copy("ema", tensors(2))
    for name, tensor in tensors(1).items():
        np.testing.assert_array_equal(weights[name], tensor.numpy(), err_msg=name)
        assert not np.shares_memory(weights[name], average[name]), name


@pytest.mark.parametrize("available", [0, 1 << 40])
def test_wait_for_a_set_counts_as_a_pause(available: int, tmp_path: Path, monkeypatch):
    """If memory is short, training waits until the set is written, and `stall_seconds` contains this time."""
    memory = SimpleNamespace(available=available)
    monkeypatch.setattr(saver, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    state = TrainingState(1, 1, 0, 1, 1, 0, 0.0, {}, {}, "3")
    arrays = {"weight": np.zeros(1000, np.float32)}
    sets = saver.CheckpointSaver(tmp_path, keep=1)
    sets.save(Snapshot(state, {WEIGHTS: arrays, "optimizer.safetensors": arrays}), is_best=False, stall_seconds=0.0)
    event = sets.wait()
    assert event is not None
    assert event.stall_seconds == (0.0 if available else event.seconds)
