"""Emulates mixed precision on a CPU, where Paddle has no half-precision operators, by rounding float32 values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812 - the usual abbreviation
import pytest

from resnet50_pipeline.recipe.precision import AMPConfig
from resnet50_pipeline.trainer.optimization import precision
from resnet50_pipeline.trainer.optimization.precision import Precision


def emulate_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `Precision` accept AMP on a CPU, with an autocast that rounds."""
    prepare = Precision.__init__
    emulations: dict[Precision, Emulation] = {}

    def prepare_and_emulate(self: Precision, amp: AMPConfig | None, network: paddle.nn.Layer) -> None:
        prepare(self, amp, network)
        if amp is not None:
            emulations[self] = Emulation(network, amp)

    def autocast(self: Precision) -> AbstractContextManager[None]:
        return emulations[self].active() if self in emulations else contextlib.nullcontext()

    monkeypatch.setattr(precision, "_require_support", lambda dtype: None)
    monkeypatch.setattr(Precision, "__init__", prepare_and_emulate)
    monkeypatch.setattr(Precision, "autocast", autocast)


class Emulation:
    """Rounds the tensors that a GPU would store in half precision. Sums stay float32, as in tensor cores.

    O1 rounds inputs and outputs of convolutions and fully connected layers. O2 also rounds the outputs of all other
    layers. Gradients are rounded in the same places.
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
        """Round values while the block runs."""
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
    """A cast to half precision and back, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: paddle.Tensor, dtype: str) -> paddle.Tensor:
        ctx.dtype = dtype
        return round_to(tensor, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        return round_to(gradient, ctx.dtype)


def round_to(tensor: paddle.Tensor, dtype: str) -> paddle.Tensor:
    """Return the nearest values of a dtype, as float32."""
    if dtype == "float16":
        return tensor.astype("float16").astype("float32")
    # A cast would not round: paddle 2.6 truncates to bfloat16 on a CPU, and truncated activations shrink with each
    # layer. This rounds to the leading 24 - 16 bits (Dekker 1971, "A Floating-Point Technique for Extending the
    # Available Precision", section 5).
    product = tensor * (2.0**16 + 1.0)
    return product - (product - tensor)
