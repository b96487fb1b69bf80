"""Finds the newest complete checkpoint among PaddleClas' files and converts the best weights to a checkpoint set.

training/epoch_3.pdparams, .pdopt, .pdstates      also latest.* and best_model.*; older releases save them in a
                                                  folder named after the network
training/checkpoints/epoch-0003/                  checkpoint set made from the best weights
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
from resnet50_pipeline.pdparams.files import read_pdparams, read_pdstates, require_plain_data
from resnet50_pipeline.training_dir import (
    UPSTREAM_STATES,
    best_path,
    checkpoint_path,
    checkpoint_paths,
    upstream_stems,
)

_WEIGHTS, _OPTIMIZER = ".pdparams", ".pdopt"
_EPOCH_NAME = re.compile(r"epoch_(\d+)$")


@dataclass(frozen=True)
class SavedEpoch:
    """A complete checkpoint of one epoch: `<stem>.pdparams`, `<stem>.pdopt` and `<stem>.pdstates`."""

    stem: Path
    epoch: int


def newest_saved_epoch(output_dir: Path) -> tuple[SavedEpoch, tuple[str, ...]]:
    """Return the newest complete checkpoint, and the problems found in newer checkpoints.

    Upstream writes the three files in place, so a killed run can leave incomplete files. Upstream also reads the files
    with `paddle.load`, which unpickles them and runs any code that they contain. This function therefore checks all
    three files first.

    Raises:
        CheckpointError: if no checkpoint is complete. The message lists the problem with each checkpoint.
    """
    found: list[SavedEpoch] = []
    problems: list[str] = []
    for stem in upstream_stems(output_dir):
        try:
            found.append(SavedEpoch(stem, int(read_pdstates(stem.with_name(stem.name + UPSTREAM_STATES))["epoch"])))
        except (CheckpointError, KeyError) as error:
            problems.append(f"{stem}{UPSTREAM_STATES} has no epoch" if isinstance(error, KeyError) else str(error))
    # Of two checkpoints of the same epoch, prefer `epoch_N`, because upstream may overwrite `latest` during the read.
    for saved in sorted(found, key=lambda one: (-one.epoch, epoch_of_stem(one.stem.name) is None)):
        try:
            for suffix in (_WEIGHTS, _OPTIMIZER):
                require_plain_data(saved.stem.with_name(saved.stem.name + suffix))
        except CheckpointError as error:
            problems.append(str(error))
            continue
        return saved, tuple(problems)
    listed = "".join(f"\n  {problem}" for problem in problems)
    raise CheckpointError(
        f"{output_dir} contains no complete PaddleClas checkpoint to resume from; start from scratch with "
        f"training.resume=false{listed}"
    )


def epoch_of_stem(stem: str) -> int | None:
    """Return the epoch in a name like `epoch_3`, or None for `latest` and `best_model`."""
    match = _EPOCH_NAME.search(stem)
    return int(match[1]) if match else None


def best_so_far(output_dir: Path) -> tuple[int, float]:
    """Return the epoch and top-1 (0..1) of the best checkpoint set in the folder, or (0, -1) if there is none."""
    if not best_path(output_dir).exists():
        return 0, -1.0
    best = json.loads(best_path(output_dir).read_text(encoding="utf-8"))
    return (int(best["epoch"]), float(best["top1"])) if (output_dir / best["checkpoint"]).is_dir() else (0, -1.0)


class BestWeights:
    """Stores the best epoch's weights as a checkpoint set, which upstream does not overwrite.

    Upstream overwrites `best_model` if an epoch is at least as good as the best epoch *in the current process*. After a
    resume, its best metric starts at 0 again, so a worse model would replace the best model.
    """

    def __init__(self, output_dir: Path, ranks: int, steps_per_epoch: int, train_list_digest: str) -> None:
        self._output_dir, self._ranks, self._steps_per_epoch = output_dir, ranks, steps_per_epoch
        self._list_digest = train_list_digest
        self._expected: tuple[int, float] | None = None

    def expect(self, epoch: int, top1: float) -> None:
        """Set the new best epoch. `collect` copies the weights of this epoch once upstream has saved them."""
        self._expected = (epoch, top1)

    def collect(self, stem: Path, paddle_version: str) -> Path | None:
        """Convert the files at `stem` to a checkpoint set and return its path.

        Return None if the files are not from the expected epoch, or if upstream is already overwriting them.
        """
        if self._expected is None:
            return None
        epoch, top1 = self._expected
        weights, states = stem.with_name(stem.name + _WEIGHTS), stem.with_name(stem.name + UPSTREAM_STATES)
        try:
            before = _fingerprint(weights, states)
            if read_pdstates(states).get("epoch") != epoch:
                return None
            arrays = read_pdparams(weights)
            if _fingerprint(weights, states) != before:
                return None
        except (CheckpointError, FileNotFoundError):
            # Upstream does not wait, so it may already be overwriting the files. It saves the same weights again as
            # `latest` or `epoch_N`.
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
            recipe={
                "engine": "paddleclas",
                "weights": weights.name,
                "DataLoader.Train.list_digest": self._list_digest,
            },
            paddle_version=paddle_version,
        )
        path = checkpoint_path(self._output_dir, epoch)
        save_checkpoint(path, Snapshot(state, {WEIGHTS: floats}))
        mark_best(self._output_dir, state)
        for other in checkpoint_paths(self._output_dir):
            if other != path:
                shutil.rmtree(other)
        self._expected = None
        return path

    def collect_remaining(self, paddle_version: str) -> Path | None:
        """Collect the best weights after upstream has ended, unless `collect` has already done so.

        Raises:
            CheckpointError: if no file contains the weights of the best epoch.
        """
        if self._expected is None:
            return None
        for stem in upstream_stems(self._output_dir):
            if path := self.collect(stem, paddle_version):
                return path
        raise CheckpointError(
            f"{self._output_dir}: no PaddleClas file contains the weights of the best epoch, {self._expected[0]}; "
            f"restore the file if it was deleted, or train again with training.resume=false"
        )


def _fingerprint(*paths: Path) -> list[tuple[int, int]]:
    return [(found.st_mtime_ns, found.st_size) for found in (path.stat() for path in paths)]
