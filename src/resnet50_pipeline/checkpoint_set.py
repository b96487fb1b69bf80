"""Reads and writes checkpoint sets: folders that are always complete, with a digest of each file.

    checkpoints/epoch-0003/                 after epoch 3; epoch-0003-step-0000000150 is inside epoch 4
      weights.safetensors     every parameter and running statistic, keyed by its name in the network
      optimizer.safetensors   the optimizer's state for every parameter
      ema.safetensors         averaged weights, if the recipe uses EMA
      margins.safetensors     sums of the training images' margins, with training.record_margins
      state.json              position in the run, schedule, meters, and the recipe with the list digests
      MANIFEST.json           {"weights.safetensors": "sha256:…", …}

Pickles are never read. Next to `checkpoints/`, `best.json` identifies the best set, and `best.pdparams` contains its
weights for PaddleClas.

Sets do not contain random number generator states, because no generator outlives a step. The DataLoader's random
numbers depend on the seed, epoch and image; the device's random numbers depend on the seed, step and rank
(`trainer/step.py`).
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
from resnet50_pipeline.pdparams.files import write_pdparams
from resnet50_pipeline.training_dir import best_path, best_weights_path, checkpoint_path, checkpoint_paths

WEIGHTS, OPTIMIZER, EMA = "weights.safetensors", "optimizer.safetensors", "ema.safetensors"
MARGINS = "margins.safetensors"
STATE, MANIFEST = "state.json", "MANIFEST.json"
# In the folder of an exported model: maps names in the exported program to names in the network, because Paddle exports
# parameters without their names.
PARAMETER_NAMES = "parameter_names.json"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TrainingState:
    """Position and state of a training run, stored in `state.json`."""

    epoch: int
    """Finished epochs."""
    step: int
    """Optimizer steps finished since the start of training."""
    step_in_epoch: int
    """Steps finished in the current epoch, or 0 at the end of an epoch."""
    steps_per_epoch: int
    ranks: int
    best_epoch: int
    best_top1: float
    schedule: dict[str, Any]
    recipe: dict[str, Any]
    """Settings that affect the weights, keyed by dotted name (`trainer/checkpoints/compatibility.py`)."""
    paddle_version: str
    meters: dict[str, Any] = field(default_factory=dict)
    """Running sums of the current epoch (`EpochMeters.state`). Empty at the end of an epoch."""
    best_balanced_accuracy: float = -1.0
    """Balanced accuracy of the best epoch, or -1 if top-1 determines it."""
    precision: dict[str, Any] = field(default_factory=dict)
    """State of the loss scaling. Empty without AMP."""
    deterministic_reduction: bool | None = None
    """Whether the order in which gradients were added did not depend on the ranks. None: unknown (an older set)."""


@dataclass(frozen=True)
class Snapshot:
    """The full content of a set in host memory, so that training can continue while the set is written."""

    state: TrainingState
    files: Mapping[str, Mapping[str, NDArray[Any]]]

    @property
    def name(self) -> str:
        """Name of the set's folder."""
        return checkpoint_path(Path(), self.state.epoch, self.state.step if self.state.step_in_epoch else None).name

    @property
    def bytes(self) -> int:
        """Total size of the arrays in bytes."""
        return sum(array.nbytes for arrays in self.files.values() for array in arrays.values())


def save_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a set next to `path`, flush it to disk, and rename it to `path`.

    Raises:
        CheckpointError: if the set cannot be written, for example because the disk is full. No partial set remains.
    """
    staged = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        for name, arrays in snapshot.files.items():
            save_file(dict(arrays), staged / name)
            flush_to_disk(staged / name)
        write_text(staged / STATE, json.dumps(asdict(snapshot.state), indent=2) + "\n")
        digests = {name: digest_file(staged / name) for name in (*snapshot.files, STATE)}
        write_text(staged / MANIFEST, json.dumps(digests, indent=2) + "\n")
        replace_directory(staged, path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise CheckpointError(
            f"{path}: write failed: {error}; earlier sets are unchanged → free disk space, then resume"
        ) from error


def mark_best(output_dir: Path, state: TrainingState) -> None:
    """Record the best epoch so far in best.json, and write its evaluated weights to best.pdparams.

    best.pdparams is for PaddleClas and never contains the weights of another epoch. The file is removed if the best set
    is in another folder, from which the run was resumed.

    Raises:
        CheckpointError: if a file cannot be written, for example because the disk is full.
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
            f"{exported}: write failed: {error}; all sets are unchanged → free disk space, then resume"
        ) from error


def prune_checkpoints(output_dir: Path, keep: int, best_epoch: int) -> None:
    """Delete all sets except the newest `keep` sets and the best set."""
    for path in checkpoint_paths(output_dir)[:-keep]:
        if path != checkpoint_path(output_dir, best_epoch):
            # Rename first. Otherwise, a process killed during the deletion would leave a damaged set.
            doomed = path.with_name(f".{path.name}.tmp")
            path.replace(doomed)
            shutil.rmtree(doomed)


def delete_leftovers(output_dir: Path) -> None:
    """Delete temporary files and folders left behind by a killed run."""
    for path in (output_dir / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(path)
    for path in output_dir.glob(".*.tmp"):  # best.*, the configuration
        path.unlink(missing_ok=True)


def find_weights(model: Path) -> Path | None:
    """Return the weights file of a model, or None if there is none.

    Args:
        model: checkpoint set or weights file. As in PaddleClas, a name without a suffix means the `.pdparams` file. For
            a set with averaged weights, the file of the averaged weights is returned.
    """
    files = (model / EMA, model / WEIGHTS) if model.is_dir() else (model, model.with_name(f"{model.name}.pdparams"))
    return next((path for path in files if path.is_file()), None)


def require_weights_digest(model: Path, digest: str) -> None:
    """Check that the weights file of a model has the given digest.

    Args:
        model: checkpoint set or weights file (see `find_weights`).
        digest: SHA-256 digest as 64 hexadecimal digits, with or without the prefix `sha256:`.

    Raises:
        CheckpointError: if there is no weights file, or its digest differs.
    """
    weights, expected = find_weights(model), f"sha256:{digest.removeprefix('sha256:')}"
    if weights is None:
        raise CheckpointError(f"no weights file at {model}, so the digest cannot be checked → copy the file there")
    if (found := digest_file(weights)) != expected:
        raise CheckpointError(
            f"{weights}: the digest is {found}, but training.pretrained_digest is {expected} → download the file "
            "again, or set the digest of the file that you want to use"
        )


def read_state(path: Path) -> TrainingState:
    """Verify every file of a set against MANIFEST.json, and return the state.

    Raises:
        CheckpointError: if a file is missing, damaged or from another set. The message identifies this file and the
            previous set.
    """
    if not (path / MANIFEST).exists() and not _is_of_a_training(path):
        raise CheckpointError(
            f"{path} is not a checkpoint set: no {MANIFEST} → specify a set, such as "
            f"training/{checkpoint_path(Path(), 3)}, or a weights file"
        )
    try:
        digests: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path / MANIFEST}: {error}{_advice(path)}") from error
    for name in (WEIGHTS, STATE):
        if name not in digests:
            raise CheckpointError(f"{path / MANIFEST} does not list {name}{_advice(path)}")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing{_advice(path)}")
        if digest_file(path / name) != digest:
            raise CheckpointError(f"{path / name} is damaged: its digest differs from {MANIFEST}{_advice(path)}")
    try:
        return TrainingState(**json.loads((path / STATE).read_text(encoding="utf-8")))
    except TypeError as error:
        raise CheckpointError(
            f"{path / STATE} was written by another version of this project ({error}) → start from scratch with "
            "training.resume=false, or resume with that version"
        ) from error


def load_arrays(path: Path, file_name: str) -> Arrays:
    """Return the arrays in a file of a set.

    Raises:
        CheckpointError: if the set has no such file. For example, a set made from .pdparams has no optimizer file.
    """
    if not (path / file_name).is_file():
        raise CheckpointError(f"{path} has no {file_name}, so training cannot resume from it → start from scratch")
    arrays: Arrays = load_file(path / file_name)
    return arrays


def _is_of_a_training(path: Path) -> bool:
    """Return whether the folder has the location and name of a set written by a training run."""
    folder = path.absolute()
    return folder in checkpoint_paths(folder.parent.parent)


def _advice(path: Path) -> str:
    """Return how to continue without this set, but never suggest deleting `path`, which may be any folder."""
    if not _is_of_a_training(path):
        return " → use another copy of this set"
    sets = checkpoint_paths(path.absolute().parent.parent)
    before = sets[: sets.index(path.absolute())]
    if before:
        return f" → the previous set is {before[-1].name}; to resume from it, move {path} out of {path.parent}"
    return " → there is no previous set; training.resume=false starts from scratch and moves this training run aside"
