"""From checkpoint sets (checkpoint_set.py) to the network."""

from __future__ import annotations

from pathlib import Path

import paddle
from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import EMA, WEIGHTS
from resnet50_pipeline.exceptions import CheckpointError


def load_weights(path: Path, network: paddle.nn.Layer, file_name: str = WEIGHTS) -> None:
    """Set every parameter and running statistic of the network from a set.

    Raises:
        CheckpointError: the set's names or shapes are not the network's.
    """
    arrays = load_file(path / file_name)
    own = network.state_dict()
    wrong = sorted(own.keys() ^ arrays.keys()) or sorted(
        name for name in own if list(own[name].shape) != list(arrays[name].shape)
    )
    if wrong:
        raise CheckpointError(
            f"{path / file_name}: not of this network, {len(wrong)} tensors differ: {', '.join(wrong[:3])}; "
            f"is Arch the one that it was trained with?"
        )
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in arrays.items()})


def load_evaluated_weights(path: Path, network: paddle.nn.Layer) -> None:
    """Set the network to what the training has evaluated: the averaged weights, where the set has some.

    Raises:
        CheckpointError: the set's names or shapes are not the network's.
    """
    load_weights(path, network, EMA if (path / EMA).is_file() else WEIGHTS)
