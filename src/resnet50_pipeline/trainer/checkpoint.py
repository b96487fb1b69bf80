"""Checkpoint sets: folders that are whole or not there, with a digest of every file.

    checkpoints/epoch-0003/
      weights.safetensors     every parameter and running statistic by its name in the network
      optimizer.safetensors   Momentum's velocity of every parameter
      state.json              epoch, step, best top-1, schedule, and the recipe with the lists' digests
      MANIFEST.json           {"weights.safetensors": "sha256:…", …}

No pickle is ever read. `best.json` beside `checkpoints/` names the best set.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import flush_to_disk, replace_directory, write_text
from resnet50_pipeline.training_dir import best_path, checkpoint_path, checkpoint_paths

WEIGHTS, OPTIMIZER, STATE, MANIFEST = "weights.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"
_VELOCITY = "_velocity_0"


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands after `epoch` finished epochs (`step` finished steps)."""

    epoch: int
    step: int
    best_epoch: int
    best_top1: float
    schedule: dict[str, Any]
    recipe: dict[str, Any]
    """What the run depends on, by dotted name (`recipe.py`)."""
    paddle_version: str


def save_checkpoint(
    path: Path, network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, state: TrainingState
) -> None:
    """Write a set beside `path`, flush it, and rename it into place.

    Raises:
        CheckpointError: it could not be written, as on a full disk; nothing of it is left.
    """
    staged = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        save_file(_arrays(network.state_dict()), staged / WEIGHTS)
        save_file(_velocities(network, optimizer), staged / OPTIMIZER)
        write_text(staged / STATE, json.dumps(asdict(state), indent=2) + "\n")
        digests = {name: _digest(staged / name) for name in (WEIGHTS, OPTIMIZER, STATE)}
        write_text(staged / MANIFEST, json.dumps(digests, indent=2) + "\n")
        for name in (WEIGHTS, OPTIMIZER):
            flush_to_disk(staged / name)
        replace_directory(staged, path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise CheckpointError(
            f"{path}: could not be written: {error}; the sets before it stand. Make room, then resume"
        ) from error


def mark_best(output_dir: Path, state: TrainingState) -> None:
    """Name the set of the best epoch so far."""
    path = checkpoint_path(output_dir, state.best_epoch).relative_to(output_dir)
    best = {"checkpoint": str(path), "epoch": state.best_epoch, "top1": state.best_top1}
    write_text(best_path(output_dir), json.dumps(best, indent=2) + "\n")


def prune_checkpoints(output_dir: Path, keep: int, best_epoch: int) -> None:
    """Delete all sets but the newest `keep` and the best."""
    for path in checkpoint_paths(output_dir)[:-keep]:
        if path != checkpoint_path(output_dir, best_epoch):
            shutil.rmtree(path)


def read_state(path: Path) -> TrainingState:
    """Check every file of a set against MANIFEST.json and return its state.

    Raises:
        CheckpointError: a file is missing, damaged or of another set; the message names it and the set before.
    """
    try:
        digests: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / MANIFEST}: cannot be read: {error}{_advice(path)}") from error
    for name in (WEIGHTS, OPTIMIZER, STATE):
        if name not in digests:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name}{_advice(path)}")
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name}: missing{_advice(path)}")
        if _digest(path / name) != digests[name]:
            raise CheckpointError(f"{path / name}: damaged, its digest is not that of {MANIFEST}{_advice(path)}")
    return TrainingState(**json.loads((path / STATE).read_text(encoding="utf-8")))


def load_weights(path: Path, network: paddle.nn.Layer) -> None:
    """Set every parameter and running statistic of the network from a set.

    Raises:
        CheckpointError: the set's names or shapes are not the network's.
    """
    arrays = load_file(path / WEIGHTS)
    own = network.state_dict()
    wrong = sorted(own.keys() ^ arrays.keys()) or sorted(
        name for name in own if list(own[name].shape) != list(arrays[name].shape)
    )
    if wrong:
        raise CheckpointError(
            f"{path / WEIGHTS}: not of this network, {len(wrong)} tensors differ: {', '.join(wrong[:3])}; "
            f"is Arch the one that it was trained with?"
        )
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in arrays.items()})


def load_optimizer(
    path: Path, network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, state: TrainingState
) -> None:
    """Set the velocity of every parameter and the schedule's position from a set."""
    arrays = load_file(path / OPTIMIZER)
    restored: dict[str, Any] = {
        parameter.name + _VELOCITY: paddle.to_tensor(arrays[name])
        for name, parameter in network.named_parameters()
        if not parameter.stop_gradient  # BatchNorm's running statistics are parameters to Paddle, but nobody moves them
    }
    optimizer.set_state_dict({**restored, "LR_Scheduler": state.schedule})


def _arrays(tensors: dict[str, paddle.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}


def _velocities(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, NDArray[np.float32]]:
    """Return the velocities by parameter name; Paddle's own keys depend on what else the process has built."""
    state = optimizer.state_dict()
    return _arrays(
        {
            name: state[parameter.name + _VELOCITY]
            for name, parameter in network.named_parameters()
            if parameter.name + _VELOCITY in state
        }
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _advice(path: Path) -> str:
    before = [other for other in sorted(path.parent.glob("epoch-*")) if other.name < path.name]
    if before:
        return f"; delete {path} to go on from {before[-1].name}"
    return f"; there is no set before it: delete {path.parent} to start anew"
