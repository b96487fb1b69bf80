"""Weights to start from: a local `.pdparams`, a `.safetensors`, or a checkpoint set. Nothing is ever downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import EMA, WEIGHTS, read_state
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.pdparams import read_pdparams

HEAD = "fc."
"""What names of the classifier begin with, in every network of the family."""


@dataclass(frozen=True)
class Pretrained:
    """What became of a file's tensors."""

    path: Path
    loaded: int
    """Tensors of the network that have the file's values now."""
    anew: tuple[str, ...]
    """Tensors of the head that the file has not, or in another shape: they start as they would without the file."""
    classes: int | None
    """The number of classes that the file's head knows; None where the file has no head."""

    def describe(self, class_num: int) -> str | None:
        """Return what the user should know, or None where every tensor was loaded."""
        if not self.anew:
            return None
        there = "no head" if self.classes is None else f"a head for {self.classes} classes"
        return (
            f"{self.path}: has {there}, and class_num is {class_num}: {self.loaded} tensors were loaded, "
            f"{len(self.anew)} start anew ({', '.join(self.anew)})"
        )


def load_pretrained(path: Path, network: paddle.nn.Layer) -> Pretrained:
    """Set the network's weights and running statistics from a file; only its head may differ.

    As upstream, a name without suffix means the `.pdparams` of that name, and a head of another shape is left out
    (ppcls/utils/save_load.py). Upstream leaves out everything else that does not fit, too; here it is an error.

    Raises:
        CheckpointError: the file is missing, damaged, no plain arrays, or of another network.
    """
    path, arrays = _read(path)
    own = network.state_dict()
    misfits = sorted(
        name
        for name in own.keys() | arrays.keys()
        if name not in own or name not in arrays or list(own[name].shape) != list(arrays[name].shape)
    )
    wrong = [name for name in misfits if not name.startswith(HEAD)]
    if wrong:
        shown = "; ".join(_difference(name, own, arrays) for name in wrong[:3])
        raise CheckpointError(
            f"{path}: not of this network, {len(wrong)} tensors outside its head differ: {shown}; is Arch.name the "
            f"network that the weights are of?"
        )
    fitting = {name: _tensor(path, name, array) for name, array in arrays.items() if name not in misfits}
    network.set_state_dict({**own, **fitting})
    bias = arrays.get(f"{HEAD}bias")
    return Pretrained(path, len(fitting), tuple(misfits), None if bias is None else len(bias))


def _read(path: Path) -> tuple[Path, dict[str, NDArray[np.generic]]]:
    """Return the file that a path stands for, and its arrays."""
    if path.is_dir():
        read_state(path)  # checks the digests
        path = path / (EMA if (path / EMA).is_file() else WEIGHTS)  # what that training evaluated
    elif not path.is_file():
        path = path.with_name(f"{path.name}.pdparams")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file; Global.pretrained_model is a .pdparams, a .safetensors or a checkpoint "
            f"set on this machine: fetch it first, for a training downloads nothing"
        )
    if path.suffix == ".safetensors":
        try:
            arrays: dict[str, NDArray[np.generic]] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
        return path, arrays
    return path, read_pdparams(path)


def _tensor(path: Path, name: str, array: NDArray[np.generic]) -> paddle.Tensor:
    if array.dtype.kind != "f":
        raise CheckpointError(f"{path}: {name} holds {array.dtype}, and weights are floats")
    return paddle.to_tensor(array.astype(np.float32))


def _difference(name: str, own: dict[str, paddle.Tensor], arrays: dict[str, NDArray[np.generic]]) -> str:
    if name not in arrays:
        return f"{name} is not in it"
    if name not in own:
        return f"{name} is in it only"
    return f"{name} is {list(arrays[name].shape)} there, {list(own[name].shape)} here"
