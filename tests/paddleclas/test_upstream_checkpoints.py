"""Files that PaddleClas saved, whole, torn and malicious; and the best weights that outlive them."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import read_state
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.paddleclas.upstream_checkpoints import (
    BestWeights,
    best_so_far,
    newest_saved_epoch,
    saved_stems,
)
from resnet50_pipeline.pdparams import write_pdparams
from resnet50_pipeline.training_dir import checkpoint_paths


def save(folder: Path, prefix: str, epoch: int, value: float = 0.0) -> Path:
    """Write three files as upstream does; return their path without a suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / prefix
    write_pdparams(stem.with_name(f"{prefix}.pdparams"), {"fc.weight": np.full(3, value, np.float32)})
    stem.with_name(f"{prefix}.pdopt").write_bytes(pickle.dumps([{"LR_Scheduler": {"last_epoch": 3}}], 4))
    stem.with_name(f"{prefix}.pdstates").write_bytes(pickle.dumps({"metric": 0.5, "epoch": epoch}, 4))
    return stem


@pytest.mark.parametrize("layout", ["", "ResNet50"])
def test_the_newest_epoch_is_found_in_both_layouts(tmp_path, layout):
    """Epochs are counted, not sorted as text; of the same epoch the file that nothing overwrites is taken."""
    for epoch in (2, 9, 10):
        save(tmp_path / layout, f"epoch_{epoch}", epoch)
    save(tmp_path / layout, "latest", 10)
    save(tmp_path / layout, "best_model", 2)
    saved, problems = newest_saved_epoch(tmp_path)
    assert (saved.stem, saved.epoch, problems) == (tmp_path / layout / "epoch_10", 10, ())


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstates"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_a_torn_save_is_passed_over_and_named(tmp_path, suffix, damage):
    """Upstream writes three files in place; a killed run leaves some of them torn, and the epoch before is whole."""
    save(tmp_path, "epoch_1", 1)
    path = save(tmp_path, "epoch_2", 2).with_name(f"epoch_2{suffix}")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5] if damage == "cut" else b"")
    saved, problems = newest_saved_epoch(tmp_path)
    assert saved.epoch == 1
    assert any(f"epoch_2{suffix}" in problem for problem in problems) or (suffix, damage) == (".pdstates", "missing")


class _Touch:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self._path}",)


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstates"])
def test_a_malicious_file_is_never_handed_to_upstream(tmp_path, suffix):
    """Upstream reads with paddle.load, which would run it; so a resume refuses it first (case 43)."""
    path = save(tmp_path, "epoch_1", 1).with_name(f"epoch_1{suffix}")
    path.write_bytes(pickle.dumps({"metric": 0.5, "epoch": 1, "w": _Touch(tmp_path / "ran")}, 4))
    with pytest.raises(CheckpointError, match=r"names .*system"):
        newest_saved_epoch(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_nothing_saved_is_an_error_with_a_way_out(tmp_path):
    """There is nothing to go on from, and the message says how to start."""
    with pytest.raises(CheckpointError, match=r"training\.resume=false"):
        newest_saved_epoch(tmp_path)
    assert saved_stems(tmp_path) == []


def test_the_best_weights_become_a_set(tmp_path):
    """The set is one of this project's: digested, named as the best, with no optimizer in it."""
    best = BestWeights(tmp_path, ranks=4, steps_per_epoch=10)
    best.want(3, 0.75)
    path = best.take(save(tmp_path, "best_model", 3, value=1.5), "2.6.2")
    assert path == tmp_path / "checkpoints" / "epoch-0003"
    state = read_state(path)
    assert (state.epoch, state.step, state.best_top1, state.ranks) == (3, 30, 0.75, 4)
    np.testing.assert_array_equal(load_file(path / "weights.safetensors")["fc.weight"], np.full(3, 1.5, np.float32))
    assert not (path / "optimizer.safetensors").exists()
    assert best_so_far(tmp_path) == (3, 0.75)
    assert not best.is_waiting


def test_weights_of_another_epoch_are_not_taken(tmp_path):
    """While the log was read, upstream may have written the next epoch over the file."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10)
    best.want(3, 0.75)
    assert best.take(save(tmp_path, "best_model", 4), "2.6.2") is None
    assert best.is_waiting
    assert best.take(save(tmp_path, "epoch_3", 3), "2.6.2") is not None


def test_a_file_that_is_being_written_is_waited_for(tmp_path):
    """A half-written file is no reason to stop: the epoch's other files follow."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10)
    best.want(1, 0.5)
    stem = save(tmp_path, "best_model", 1)
    with stem.with_name("best_model.pdparams").open("r+b") as file:
        file.truncate(40)
    assert best.take(stem, "2.6.2") is None
    save(tmp_path, "latest", 1)
    assert best.take_at_the_end("2.6.2") is not None


def test_a_lost_best_epoch_is_an_error(tmp_path):
    """No file with its weights is left: the run must not pass for one with a best checkpoint."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10)
    best.want(1, 0.5)
    save(tmp_path, "latest", 2)
    with pytest.raises(CheckpointError, match="weights of epoch 1"):
        best.take_at_the_end("2.6.2")


def test_a_better_set_replaces_the_one_before(tmp_path):
    """One set stays: the best one."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10)
    for epoch, top1 in ((1, 0.25), (2, 0.5)):
        best.want(epoch, top1)
        best.take(save(tmp_path, f"epoch_{epoch}", epoch), "2.6.2")
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["epoch-0002"]


def test_a_best_whose_set_is_gone_is_none(tmp_path):
    """A name without a folder would keep a resumed run from ever having a best set."""
    (tmp_path / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/epoch-0001", "epoch": 1, "top1": 0.9}))
    assert best_so_far(tmp_path) == (0, -1.0)
