"""PaddleClas' checkpoints are read safely, whether complete, incomplete or malicious, and the best weights are kept."""

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
from resnet50_pipeline.paddleclas.evaluated_model import trained_list_digest
from resnet50_pipeline.paddleclas.upstream.checkpoints import (
    BestWeights,
    best_so_far,
    newest_saved_epoch,
)
from resnet50_pipeline.pdparams.files import write_pdparams
from resnet50_pipeline.training_dir import checkpoint_paths, upstream_stems


def save(folder: Path, prefix: str, epoch: int, value: float = 0.0) -> Path:
    """Write three files as upstream does, and return their path without a suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / prefix
    write_pdparams(stem.with_name(f"{prefix}.pdparams"), {"fc.weight": np.full(3, value, np.float32)})
    stem.with_name(f"{prefix}.pdopt").write_bytes(pickle.dumps([{"LR_Scheduler": {"last_epoch": 3}}], 4))
    stem.with_name(f"{prefix}.pdstates").write_bytes(pickle.dumps({"metric": 0.5, "epoch": epoch}, 4))
    return stem


@pytest.mark.parametrize("layout", ["", "ResNet50"])
def test_newest_epoch_is_found_in_both_layouts(tmp_path, layout):
    """Epochs are compared as numbers. If two are equal, the file that upstream does not overwrite is used."""
    for epoch in (2, 9, 10):
        save(tmp_path / layout, f"epoch_{epoch}", epoch)
    save(tmp_path / layout, "latest", 10)
    save(tmp_path / layout, "best_model", 2)
    saved, problems = newest_saved_epoch(tmp_path)
    assert (saved.stem, saved.epoch, problems) == (tmp_path / layout / "epoch_10", 10, ())


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstates"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_incomplete_save_is_skipped_and_named(tmp_path, suffix, damage):
    """If a save is killed, the previous epoch is used, and the incomplete one is reported."""
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
def test_malicious_file_never_reaches_upstream(tmp_path, suffix):
    """A resumed run rejects a malicious file before upstream's paddle.load can run its code (case 43)."""
    path = save(tmp_path, "epoch_1", 1).with_name(f"epoch_1{suffix}")
    path.write_bytes(pickle.dumps({"metric": 0.5, "epoch": 1, "w": _Touch(tmp_path / "ran")}, 4))
    with pytest.raises(CheckpointError, match=r"names .*system"):
        newest_saved_epoch(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_resume_without_upstream_checkpoint_is_an_error(tmp_path):
    """Without a checkpoint, the error says how to start from scratch."""
    with pytest.raises(CheckpointError, match=r"training\.resume=false"):
        newest_saved_epoch(tmp_path)
    assert upstream_stems(tmp_path) == []


def test_best_weights_become_a_set(tmp_path):
    """The best weights become a checkpoint set with digests and without an optimizer."""
    best = BestWeights(tmp_path, ranks=4, steps_per_epoch=10, train_list_digest="sha256:12")
    best.expect(3, 0.75)
    path = best.collect(save(tmp_path, "best_model", 3, value=1.5), "2.6.2")
    assert path == tmp_path / "checkpoints" / "epoch-0003"
    state = read_state(path)
    assert (state.epoch, state.step, state.best_top1, state.ranks) == (3, 30, 0.75, 4)
    assert trained_list_digest(path) == "sha256:12"
    np.testing.assert_array_equal(load_file(path / "weights.safetensors")["fc.weight"], np.full(3, 1.5, np.float32))
    assert not (path / "optimizer.safetensors").exists()
    assert best_so_far(tmp_path) == (3, 0.75)
    assert best.collect_remaining("2.6.2") is None


def test_weights_of_another_epoch_are_not_used(tmp_path):
    """If upstream has written another epoch's weights in the meantime, they are not used."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10, train_list_digest="sha256:12")
    best.expect(3, 0.75)
    assert best.collect(save(tmp_path, "best_model", 4), "2.6.2") is None
    assert best.collect(save(tmp_path, "epoch_3", 3), "2.6.2") is not None


def test_partially_written_file_is_skipped(tmp_path):
    """A partially written file is skipped, because upstream saves the same weights again."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10, train_list_digest="sha256:12")
    best.expect(1, 0.5)
    stem = save(tmp_path, "best_model", 1)
    with stem.with_name("best_model.pdparams").open("r+b") as file:
        file.truncate(40)
    assert best.collect(stem, "2.6.2") is None
    save(tmp_path, "latest", 1)
    assert best.collect_remaining("2.6.2") is not None


def test_missing_best_epoch_is_an_error(tmp_path):
    """If no file contains the weights of the best epoch, the error names the epoch."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10, train_list_digest="sha256:12")
    best.expect(1, 0.5)
    save(tmp_path, "latest", 2)
    with pytest.raises(CheckpointError, match=r"best epoch, 1\b"):
        best.collect_remaining("2.6.2")


def test_better_set_replaces_previous_best(tmp_path):
    """Only the best set is kept."""
    best = BestWeights(tmp_path, ranks=1, steps_per_epoch=10, train_list_digest="sha256:12")
    for epoch, top1 in ((1, 0.25), (2, 0.5)):
        best.expect(epoch, top1)
        best.collect(save(tmp_path, f"epoch_{epoch}", epoch), "2.6.2")
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["epoch-0002"]


def test_best_json_without_set_counts_as_none(tmp_path):
    """A best.json file whose set is missing is treated as if there were no best set."""
    (tmp_path / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/epoch-0001", "epoch": 1, "top1": 0.9}))
    assert best_so_far(tmp_path) == (0, -1.0)
