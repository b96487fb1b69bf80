"""The files that PaddleClas saves: the newest whole ones to go on from, and the best weights as a checkpoint set.

training/epoch_3.pdparams, .pdopt, .pdstates      also latest.* and best_model.*; older releases put them into a
training/checkpoints/epoch-0003/                  folder named after the network. This is the set that is made
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet50_pipeline.checkpoint_set import WEIGHTS, Snapshot, TrainingState, mark_best, save_checkpoint
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.pdparams import read_pdparams, read_pdstates, require_plain_data
from resnet50_pipeline.training_dir import best_path, checkpoint_path, checkpoint_paths

_WEIGHTS, _OPTIMIZER, _STATES = ".pdparams", ".pdopt", ".pdstates"
_EPOCH_NAME = re.compile(r"epoch_(\d+)$")


@dataclass(frozen=True)
class SavedEpoch:
    """Three files of one epoch, `<stem>.pdparams` and so on, read and found whole."""

    stem: Path
    epoch: int


def saved_stems(output_dir: Path) -> list[Path]:
    """Return the path without a suffix of everything that can be gone on from, complete or not."""
    files = [*output_dir.glob(f"*{_STATES}"), *output_dir.glob(f"*/*{_STATES}")]
    return sorted(path.with_suffix("") for path in files)


def newest_saved_epoch(output_dir: Path) -> tuple[SavedEpoch, tuple[str, ...]]:
    """Return the newest epoch whose files are whole, and what is wrong with those that are newer.

    Upstream writes three files one after the other and in place, so a killed run leaves torn ones; and it reads them
    with `paddle.load`, which would run what they name. So all three are read here first.

    Raises:
        CheckpointError: there is none; names what is wrong with each.
    """
    found: list[SavedEpoch] = []
    problems: list[str] = []
    for stem in saved_stems(output_dir):
        try:
            found.append(SavedEpoch(stem, int(read_pdstates(stem.with_name(stem.name + _STATES))["epoch"])))
        except (CheckpointError, KeyError) as error:
            problems.append(f"{stem}{_STATES}: names no epoch" if isinstance(error, KeyError) else str(error))
    # Of the same epoch, epoch_3 before latest: nothing overwrites it while it is read.
    for saved in sorted(found, key=lambda one: (-one.epoch, epoch_of_stem(one.stem.name) is None)):
        try:
            for suffix in (_WEIGHTS, _OPTIMIZER):
                require_plain_data(saved.stem.with_name(saved.stem.name + suffix))
        except CheckpointError as error:
            problems.append(str(error))
            continue
        return saved, tuple(problems)
    wrong = "".join(f"\n  {problem}" for problem in problems)
    raise CheckpointError(
        f"{output_dir}: PaddleClas has saved nothing whole there to resume from; start anew with "
        f"training.resume=false{wrong}"
    )


def epoch_of_stem(stem: str) -> int | None:
    """Return the epoch in a name like `epoch_3`; None for `latest` and `best_model`."""
    match = _EPOCH_NAME.search(stem)
    return int(match[1]) if match else None


def best_so_far(output_dir: Path) -> tuple[int, float]:
    """Return epoch and top-1 (0..1) of the best set that an earlier part of the run left; (0, -1) where none did."""
    if not best_path(output_dir).exists():
        return 0, -1.0
    best = json.loads(best_path(output_dir).read_text(encoding="utf-8"))
    return (int(best["epoch"]), float(best["top1"])) if (output_dir / best["checkpoint"]).is_dir() else (0, -1.0)


class BestWeights:
    """Keeps the best epoch's weights as a checkpoint set, out of the reach of upstream.

    Upstream overwrites `best_model` whenever an epoch is at least as good as the best one *of this process*: after a
    resume it takes the best metric for 0, and a worse model would replace the best.
    """

    def __init__(self, output_dir: Path, ranks: int, steps_per_epoch: int) -> None:
        self._output_dir, self._ranks, self._steps_per_epoch = output_dir, ranks, steps_per_epoch
        self._wanted: tuple[int, float] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the best epoch's weights are still to be taken."""
        return self._wanted is not None

    def want(self, epoch: int, top1: float) -> None:
        """Take the weights of an epoch, as soon as upstream has saved them."""
        self._wanted = (epoch, top1)

    def take(self, stem: Path, paddle_version: str) -> Path | None:
        """Return the set made of files that upstream has just saved; None where they are not the wanted ones."""
        if self._wanted is None:
            return None
        epoch, top1 = self._wanted
        weights, states = stem.with_name(stem.name + _WEIGHTS), stem.with_name(stem.name + _STATES)
        try:
            before = _marks(weights, states)
            if read_pdstates(states).get("epoch") != epoch:
                return None
            arrays = read_pdparams(weights)
            if _marks(weights, states) != before:
                return None
        except (CheckpointError, FileNotFoundError):
            # Upstream, which does not wait, is writing the next epoch's over them; `latest` or `epoch_N` comes after.
            return None
        floats = {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in arrays.items()
        }
        state = TrainingState(
            epoch=epoch,
            step=epoch * self._steps_per_epoch,
            step_in_epoch=0,
            steps_per_epoch=self._steps_per_epoch,
            ranks=self._ranks,
            best_epoch=epoch,
            best_top1=top1,
            schedule={},
            recipe={"engine": "paddleclas", "weights": weights.name},
            paddle_version=paddle_version,
        )
        path = checkpoint_path(self._output_dir, epoch)
        save_checkpoint(path, Snapshot(state, {WEIGHTS: floats}))
        mark_best(self._output_dir, state)
        for other in checkpoint_paths(self._output_dir):
            if other != path:
                shutil.rmtree(other)
        self._wanted = None
        return path

    def take_at_the_end(self, paddle_version: str) -> Path | None:
        """Take what is still wanted, after upstream has ended.

        Raises:
            CheckpointError: no file holds the weights of the best epoch.
        """
        if self._wanted is None:
            return None
        for stem in saved_stems(self._output_dir):
            if path := self.take(stem, paddle_version):
                return path
        raise CheckpointError(
            f"{self._output_dir}: no file that PaddleClas saved holds the weights of epoch {self._wanted[0]}, the best "
            f"one; was one of them deleted?"
        )


def _marks(*paths: Path) -> list[tuple[int, int]]:
    return [(found.st_mtime_ns, found.st_size) for found in (path.stat() for path in paths)]
