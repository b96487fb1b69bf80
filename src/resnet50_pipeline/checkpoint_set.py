"""Checkpoint sets: folders that are whole or not there, with a digest of every file.

    checkpoints/epoch-0003/                 after epoch 3; epoch-0003-step-0000000150 is one inside epoch 4
      weights.safetensors     every parameter and running statistic by its name in the network
      optimizer.safetensors   what the optimizer keeps of every parameter
      ema.safetensors         averaged weights, where the recipe has EMA
      state.json              where the run stands, schedule, meters, and the recipe with the lists' digests
      MANIFEST.json           {"weights.safetensors": "sha256:…", …}

No pickle is ever read. `best.json` beside `checkpoints/` names the best set, `best.pdparams` has its weights for
PaddleClas.

Nothing of a random number generator is in a set, for none has a state that outlives a step: what the loader draws
depends on seed, epoch and image, what the device draws on seed, step and rank (`trainer/step.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import digest_file, flush_to_disk, replace_directory, write_text
from resnet50_pipeline.pdparams import write_pdparams
from resnet50_pipeline.training_dir import best_path, best_weights_path, checkpoint_path, checkpoint_paths

WEIGHTS, OPTIMIZER, EMA = "weights.safetensors", "optimizer.safetensors", "ema.safetensors"
STATE, MANIFEST = "state.json", "MANIFEST.json"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands."""

    epoch: int
    """Finished epochs."""
    step: int
    """Finished optimizer steps since the very beginning."""
    step_in_epoch: int
    """Finished steps of the epoch that is under way; 0 after an epoch's end."""
    steps_per_epoch: int
    ranks: int
    best_epoch: int
    best_top1: float
    schedule: dict[str, Any]
    recipe: dict[str, Any]
    """What the run depends on, by dotted name (`trainer/recipe.py`)."""
    paddle_version: str
    meters: dict[str, Any] = field(default_factory=dict)
    """What the epoch's figures have added up to so far (`EpochMeters.state`); empty after an epoch's end."""
    precision: dict[str, Any] = field(default_factory=dict)
    """The loss scaling, where the recipe has AMP."""


@dataclass(frozen=True)
class Snapshot:
    """Everything of a set, copied to the host: the run may go on while it is written."""

    state: TrainingState
    files: Mapping[str, Arrays]

    @property
    def name(self) -> str:
        """The folder's name."""
        return checkpoint_path(Path(), self.state.epoch, self.state.step if self.state.step_in_epoch else None).name

    @property
    def bytes(self) -> int:
        """Size of the arrays."""
        return sum(array.nbytes for arrays in self.files.values() for array in arrays.values())


def save_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a set beside `path`, flush it, and rename it into place.

    Raises:
        CheckpointError: it could not be written, as on a full disk; nothing of it is left.
    """
    staged = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        for name, arrays in snapshot.files.items():
            save_file(arrays, staged / name)
            flush_to_disk(staged / name)
        write_text(staged / STATE, json.dumps(asdict(snapshot.state), indent=2) + "\n")
        digests = {name: digest_file(staged / name) for name in (*snapshot.files, STATE)}
        write_text(staged / MANIFEST, json.dumps(digests, indent=2) + "\n")
        replace_directory(staged, path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise CheckpointError(
            f"{path}: could not be written: {error}; the sets before it stand. Make room, then resume"
        ) from error


def mark_best(output_dir: Path, state: TrainingState) -> None:
    """Name the set of the best epoch so far, and write its evaluated weights once more, as PaddleClas reads them.

    The weights of another epoch do not stand beside the name: where the set is not there, as in a folder that goes on
    from a set of another one, there are none.

    Raises:
        CheckpointError: they could not be written, as on a full disk.
    """
    path, exported = checkpoint_path(output_dir, state.best_epoch), best_weights_path(output_dir)
    best = {"checkpoint": str(path.relative_to(output_dir)), "epoch": state.best_epoch, "top1": state.best_top1}
    try:
        write_text(best_path(output_dir), json.dumps(best, indent=2) + "\n")
        if path.is_dir():
            write_pdparams(exported, load_file(path / (EMA if (path / EMA).is_file() else WEIGHTS)))
        else:
            exported.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{exported}: could not be written: {error}; all sets stand. Make room, then resume"
        ) from error


def prune_checkpoints(output_dir: Path, keep: int, best_epoch: int) -> None:
    """Delete all sets but the newest `keep` and the best."""
    for path in checkpoint_paths(output_dir)[:-keep]:
        if path != checkpoint_path(output_dir, best_epoch):
            # Renamed first: a set that is half deleted must not look like a damaged one.
            doomed = path.with_name(f".{path.name}.tmp")
            path.replace(doomed)
            shutil.rmtree(doomed)


def delete_leftovers(output_dir: Path) -> None:
    """Delete what a killed run left behind half-written or half-deleted."""
    for path in (output_dir / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(path)
    for path in output_dir.glob(".*.tmp"):  # best.*, the configuration
        path.unlink(missing_ok=True)


def read_state(path: Path) -> TrainingState:
    """Check every file of a set against MANIFEST.json and return its state.

    Raises:
        CheckpointError: a file is missing, damaged or of another set; the message names it and the set before.
    """
    try:
        digests: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / MANIFEST}: cannot be read: {error}{_advice(path)}") from error
    for name in (WEIGHTS, STATE):
        if name not in digests:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name}{_advice(path)}")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name}: missing{_advice(path)}")
        if digest_file(path / name) != digest:
            raise CheckpointError(f"{path / name}: damaged, its digest is not that of {MANIFEST}{_advice(path)}")
    try:
        return TrainingState(**json.loads((path / STATE).read_text(encoding="utf-8")))
    except TypeError as error:
        raise CheckpointError(
            f"{path / STATE}: written by another version of this project ({error}); start anew with "
            f"training.resume=false, or go on with that version"
        ) from error


def load_arrays(path: Path, file_name: str) -> Arrays:
    """Return the arrays of one file of a set.

    Raises:
        CheckpointError: the set has no such file, as one that was made from a .pdparams has no optimizer.
    """
    if not (path / file_name).is_file():
        raise CheckpointError(f"{path}: has no {file_name}, so no training can go on from it; start anew")
    arrays: Arrays = load_file(path / file_name)
    return arrays


def _advice(path: Path) -> str:
    before = [other for other in checkpoint_paths(path.parents[1]) if other.name < path.name]
    if before:
        return f"; delete {path} to go on from {before[-1].name}"
    return f"; there is no set before it: delete {path.parent} to start anew"
