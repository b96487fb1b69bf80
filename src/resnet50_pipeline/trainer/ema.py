"""The moving average of the weights, which is evaluated and exported in their place."""

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
    """average ← decay · average + (1 - decay) · weights after every optimizer step, from the first weights on.

    As `ppcls/utils/ema.py`: BatchNorm's running statistics are averaged too. All tensors lie in one vector, so that an
    update is a few operations on the device instead of a few for each of ResNet50's 267 tensors.
    """

    def __init__(self, network: paddle.nn.Layer, decay: float) -> None:
        self._decay = decay
        self._tensors: dict[str, paddle.Tensor] = dict(network.state_dict())
        self.restart()

    def restart(self) -> None:
        """Begin anew with the present weights, as after others were loaded."""
        self._average = self._joined()

    def update(self) -> None:
        """Take in the present weights."""
        # In place, and never read back: the step does not wait for it.
        with paddle.no_grad():
            self._average.scale_(self._decay)
            self._average.add_(self._joined().scale_(1.0 - self._decay))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the averaged weights inside the block, and its own again, bit by bit, after it."""
        own = self._joined()
        self._set(self._average)
        try:
            yield
        finally:
            self._set(own)

    @property
    def tensors(self) -> dict[str, paddle.Tensor]:
        """The average, all of it one vector."""
        return {_VECTOR: self._average}

    def named(self, arrays: Arrays) -> Arrays:
        """Return the values of `tensors` by the names of the network's state."""
        flat = arrays[_VECTOR]
        return {name: flat[start:end].reshape(tensor.shape) for name, tensor, start, end in self._places()}

    def restore(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Go on from what `named` returned.

        Raises:
            CheckpointError: names or shapes are not the network's.
        """
        wrong = sorted(self._tensors.keys() ^ arrays.keys()) or sorted(
            name for name, tensor in self._tensors.items() if list(tensor.shape) != list(arrays[name].shape)
        )
        if wrong:
            raise CheckpointError(
                f"the averaged weights are not of this network, {len(wrong)} tensors differ: {', '.join(wrong[:3])}"
            )
        self._average = paddle.to_tensor(np.concatenate([arrays[name].reshape(-1) for name in self._tensors]))

    def _joined(self) -> paddle.Tensor:
        return paddle.concat([tensor.detach().reshape([-1]) for tensor in self._tensors.values()])

    def _set(self, flat: paddle.Tensor) -> None:
        with paddle.no_grad():
            for _, tensor, start, end in self._places():
                paddle.assign(flat[start:end].reshape(tensor.shape), output=tensor)

    def _places(self) -> Iterator[tuple[str, paddle.Tensor, int, int]]:
        start = 0
        for name, tensor in self._tensors.items():
            yield name, tensor, start, start + tensor.size
            start += tensor.size
