"""Loads pretrained weights from a local weights file, checkpoint set or exported model. Never downloads weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import PARAMETER_NAMES, find_weights, read_state
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.pdparams.files import read_pdparams

_EXPORTED = "inference"
HEAD = "fc."
"""Prefix of the classifier's parameter names in all networks of the ResNet family."""


@dataclass(frozen=True)
class Pretrained:
    """The result of loading pretrained weights.

    Attributes:
        path: path of the weights file.
        loaded: number of tensors that were loaded into the network.
        initialized: names of the head's tensors that were not loaded, because they are missing from the file or have a
            different shape there. These tensors keep their random initial values.
        classes: number of classes in the file's head, or None if the file has no head.
    """

    path: Path
    loaded: int
    initialized: tuple[str, ...]
    classes: int | None

    def describe(self, class_num: int) -> str | None:
        """Return a warning if the head was not loaded, or None if the head was loaded."""
        if not self.initialized:
            return None
        head = "no head" if self.classes is None else f"a head for {self.classes} classes"
        return (
            f"{self.path} has {head}, but class_num is {class_num}: {self.loaded} tensors were loaded, and "
            f"{len(self.initialized)} keep their random initial values ({', '.join(self.initialized)})"
        )


def load_pretrained(path: Path, network: paddle.nn.Layer) -> Pretrained:
    """Load weights and running statistics from a file into the network.

    All tensors except the head's must match. As in upstream (ppcls/utils/save_load.py), a path without a suffix refers
    to the `.pdparams` file with that name, and a head with a different shape is skipped. Upstream also skips any other
    tensor that does not match, whereas this function raises an error.

    Args:
        path: a `.pdparams` or `.safetensors` file, a checkpoint set, or the folder of an exported model. If a
            checkpoint set contains averaged weights, these are used.
        network: network to load the weights into.

    Raises:
        CheckpointError: if the file is missing or damaged, belongs to a different network, or contains objects other
            than arrays.
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
            f"{path}: the weights are from another network: {len(wrong)} tensors outside the head differ: {shown}; "
            "set Arch.name to the network of these weights"
        )
    fitting = {name: _tensor(path, name, array) for name, array in arrays.items() if name not in misfits}
    network.set_state_dict({**own, **fitting})
    bias = arrays.get(f"{HEAD}bias")
    return Pretrained(path, len(fitting), tuple(misfits), None if bias is None else len(bias))


def _read(path: Path) -> tuple[Path, dict[str, NDArray[np.generic]]]:
    """Return the path of the weights file, and the arrays that it contains."""
    if (path / f"{_EXPORTED}.pdiparams").is_file():
        return path, _read_exported(path)
    if path.is_dir():
        read_state(path)  # checks the digests
    found = find_weights(path)
    if found is None:
        raise CheckpointError(
            f"{path}: no such file. Global.pretrained_model must be a local .pdparams file, .safetensors file or "
            "checkpoint set; training never downloads weights, so download the weights first"
        )
    path = found
    if path.suffix == ".safetensors":
        try:
            arrays: dict[str, NDArray[np.generic]] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path} is not a valid safetensors file ({error}); download the file again"
            ) from error
        return path, arrays
    return path, read_pdparams(path)


def _read_exported(folder: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an exported model, keyed by their names in the network."""
    names_file = folder / PARAMETER_NAMES
    if not names_file.is_file():
        raise CheckpointError(
            f"{folder} has no {PARAMETER_NAMES}, so the model was exported by an earlier version of this project or by "
            "another program; start from its checkpoint set or its best.pdparams"
        )
    names: dict[str, str] = json.loads(names_file.read_text(encoding="utf-8"))
    try:
        exported = paddle.jit.load(str(folder / _EXPORTED)).state_dict()
    except (ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{folder}: paddle {paddle.__version__} cannot load this exported model ({error}); start from its "
            f"checkpoint set or its best.pdparams"
        ) from error
    if exported.keys() != names.keys():
        raise CheckpointError(
            f"{folder}: {PARAMETER_NAMES} does not belong to this exported model; start from its checkpoint set or its "
            f"best.pdparams"
        )
    return {names[key]: tensor.numpy() for key, tensor in exported.items()}


def _tensor(path: Path, name: str, array: NDArray[np.generic]) -> paddle.Tensor:
    if array.dtype.kind != "f":
        raise CheckpointError(f"{path}: {name} has dtype {array.dtype}; weights must be floating-point numbers")
    return paddle.to_tensor(array.astype(np.float32))


def _difference(name: str, own: dict[str, paddle.Tensor], arrays: dict[str, NDArray[np.generic]]) -> str:
    if name not in arrays:
        return f"{name} is missing from the file"
    if name not in own:
        return f"{name} is missing from the network"
    return f"{name} has shape {list(arrays[name].shape)} in the file, {list(own[name].shape)} in the network"
