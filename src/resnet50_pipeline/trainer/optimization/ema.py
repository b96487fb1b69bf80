"""Maintains an exponential moving average of the weights, which replaces the weights in evaluations and exports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.checkpoint_set import Arrays
from resnet50_pipeline.exceptions import CheckpointError

_VECTOR = "average"


class ExponentialMovingAverage:
    """Updates `average = decay * average + (1 - decay) * weights` after every optimizer step.

    As in `ppcls/utils/ema.py`, BatchNorm's running statistics are averaged too. All tensors are stored in one vector,
    so an update takes a few device operations in total, instead of a few for each of ResNet50's 267 tensors.
    """

    def __init__(self, network: paddle.nn.Layer, decay: float) -> None:
        self._decay = decay
        self._tensors: dict[str, paddle.Tensor] = dict(network.state_dict())
        self.restart()

    def restart(self) -> None:
        """Set the average to the current weights. Call this after loading other weights."""
        self._average = self._concatenate()

    def update(self) -> None:
        """Update the average with the current weights."""
        # Update in place on the device without reading the result, so that the step does not have to wait.
        with paddle.no_grad():
            self._average.scale_(self._decay)
            self._average.add_(self._concatenate().scale_(1.0 - self._decay))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the network's weights with the average inside the block. Restore the exact weights afterward."""
        weights = self._concatenate()
        self._assign(self._average)
        try:
            yield
        finally:
            self._assign(weights)

    @property
    def tensors(self) -> dict[str, paddle.Tensor]:
        """The average as a single vector."""
        return {_VECTOR: self._average}

    def named(self, arrays: Arrays) -> Arrays:
        """Split a host copy of `tensors` into separate arrays, keyed by tensor name."""
        flat = arrays[_VECTOR]
        return {name: flat[start:end].reshape(tensor.shape) for name, tensor, start, end in self._slices()}

    def restore(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Set the average to arrays returned by `named`.

        Raises:
            CheckpointError: if the names or shapes of the arrays do not match the network's tensors.
        """
        wrong = sorted(self._tensors.keys() ^ arrays.keys()) or sorted(
            name for name, tensor in self._tensors.items() if list(tensor.shape) != list(arrays[name].shape)
        )
        if wrong:
            raise CheckpointError(
                f"the averaged weights are from another network: {len(wrong)} tensors differ: {', '.join(wrong[:3])}"
            )
        self._average = paddle.to_tensor(np.concatenate([arrays[name].reshape(-1) for name in self._tensors]))

    def _concatenate(self) -> paddle.Tensor:
        return paddle.concat([tensor.detach().reshape([-1]) for tensor in self._tensors.values()])

    def _assign(self, flat: paddle.Tensor) -> None:
        with paddle.no_grad():
            for _, tensor, start, end in self._slices():
                paddle.assign(flat[start:end].reshape(tensor.shape), output=tensor)

    def _slices(self) -> Iterator[tuple[str, paddle.Tensor, int, int]]:
        start = 0
        for name, tensor in self._tensors.items():
            yield name, tensor, start, start + tensor.size
            start += tensor.size
