"""Loads the weights of a checkpoint set into a network."""

from __future__ import annotations

from pathlib import Path

import paddle
from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import EMA, WEIGHTS
from resnet50_pipeline.exceptions import CheckpointError


def load_weights(path: Path, network: paddle.nn.Layer, file_name: str = WEIGHTS) -> None:
    """Load all parameters and running statistics of the network from a file in a checkpoint set.

    Raises:
        CheckpointError: if the names or shapes of the tensors differ between the file and the network.
    """
    arrays = load_file(path / file_name)
    own = network.state_dict()
    wrong = sorted(own.keys() ^ arrays.keys()) or sorted(
        name for name in own if list(own[name].shape) != list(arrays[name].shape)
    )
    if wrong:
        raise CheckpointError(
            f"{path / file_name}: the weights are from another network: {len(wrong)} tensors differ: "
            f"{', '.join(wrong[:3])}; set training.arch to the network of the checkpoint"
        )
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in arrays.items()})


def load_evaluated_weights(path: Path, network: paddle.nn.Layer) -> None:
    """Load the weights that training evaluated: the averaged weights if the set contains any, otherwise the weights.

    Raises:
        CheckpointError: if the names or shapes of the tensors differ between the set and the network.
    """
    load_weights(path, network, EMA if (path / EMA).is_file() else WEIGHTS)
