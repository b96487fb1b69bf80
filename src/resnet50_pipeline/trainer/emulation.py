"""Mixed precision on a CPU, for which Paddle has no half precision: a rehearsal in rounded float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation

from resnet50_pipeline.training_config import AMPConfig


class Emulation:
    """Rounds what a device would hold in half precision; sums are float32, as tensor cores accumulate them.

    O1 rounds what convolutions and fully connected layers take and give, O2 what every layer gives; gradients are
    rounded at the same places.
    """

    def __init__(self, network: paddle.nn.Layer, amp: AMPConfig) -> None:
        self._dtype, self._is_active = amp.dtype, False
        for layer in network.sublayers(include_self=True):
            if isinstance(layer, paddle.nn.Conv2D):
                layer.forward = self._rounding_convolution(layer)
            elif isinstance(layer, paddle.nn.Linear):
                layer.forward = self._rounding_product(layer)
            elif amp.level == "O2" and not layer.sublayers():
                layer.register_forward_post_hook(lambda _layer, _inputs, output: self._rounded(output))

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Round inside the block."""
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False

    def _rounded(self, tensor: paddle.Tensor) -> paddle.Tensor:
        return _Rounding.apply(tensor, self._dtype) if self._is_active and tensor is not None else tensor

    def _rounding_convolution(self, layer: paddle.nn.Conv2D) -> Callable[[paddle.Tensor], paddle.Tensor]:
        def forward(x: paddle.Tensor) -> paddle.Tensor:
            weight, bias = self._rounded(layer.weight), self._rounded(layer.bias)
            return self._rounded(
                F.conv2d(
                    self._rounded(x),
                    weight,
                    bias,
                    stride=layer._stride,
                    padding=layer._padding,
                    dilation=layer._dilation,
                    groups=layer._groups,
                    data_format=layer._data_format,
                )
            )

        return forward

    def _rounding_product(self, layer: paddle.nn.Linear) -> Callable[[paddle.Tensor], paddle.Tensor]:
        def forward(x: paddle.Tensor) -> paddle.Tensor:
            weight, bias = self._rounded(layer.weight), self._rounded(layer.bias)
            return self._rounded(F.linear(self._rounded(x), weight, bias))

        return forward


class _Rounding(paddle.autograd.PyLayer):
    """A cast to half precision and back, forward and backward."""

    @staticmethod
    def forward(ctx: Any, tensor: paddle.Tensor, dtype: str) -> paddle.Tensor:
        ctx.dtype = dtype
        return round_to(tensor, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        return round_to(gradient, ctx.dtype)


def round_to(tensor: paddle.Tensor, dtype: str) -> paddle.Tensor:
    """Return the nearest numbers of a dtype, as float32."""
    if dtype == "float16":
        return tensor.astype("float16").astype("float32")
    # Not by a cast: that of paddle 2.6 on a CPU cuts off, and a network of cut off numbers fades from layer to layer.
    # This leaves 24 - 16 leading bits, rounded (Dekker 1971, "A Floating-Point Technique for Extending the Available
    # Precision", section 5).
    stretched = tensor * (2.0**16 + 1.0)
    return stretched - (stretched - tensor)
