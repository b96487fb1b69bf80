"""Mixed precision: what is computed in half of it, and the scale that keeps small gradients from vanishing there."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import paddle
from paddle import _C_ops

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.trainer.emulation import Emulation
from resnet50_pipeline.training_config import AMPConfig

# paddle.amp.GradScaler's, which upstream leaves as they are (ppcls/utils/amp.py).
GROWTH, SHRINKAGE, STEPS_TO_GROWTH = 2.0, 0.5, 2000


class Precision:
    """`AMP` of one training; without it, everything passes through.

    Weights and optimizer are float32 throughout: they are the master weights. O2 needs no second copy of them, for
    Paddle casts what an operator takes, weights too, each time; so sets, averages and evaluation are the same with
    every level.
    """

    def __init__(self, amp: AMPConfig | None, network: paddle.nn.Layer) -> None:
        """Prepare a network.

        Raises:
            TrainingConfigError: the device has no such precision, and would train in float32 without a word.
        """
        self._amp = amp if amp is not None and amp.use_amp else None
        self._scaler: LossScaler | None = None
        self._emulation: Emulation | None = None
        if self._amp is None:
            return
        if self._amp.dtype == "float16":
            trained = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
            self._scaler = LossScaler(trained, self._amp.scale_loss, dynamic=self._amp.use_dynamic_loss_scaling)
        if paddle.get_device() == "cpu":
            if not self._amp.emulate_on_cpu:
                raise TrainingConfigError(
                    f"AMP: Paddle has no {self._amp.dtype} operators for a CPU, and auto_cast does nothing there; take "
                    f"AMP out, or set AMP.emulate_on_cpu: true to rehearse it, rounded and slow"
                )
            self._emulation = Emulation(network, self._amp)
        else:
            _require_support(self._amp.dtype)
            # What upstream sets (ppcls/engine/engine.py).
            paddle.set_flags({"FLAGS_max_inplace_grad_add": 8})

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context for the forward pass of a training step."""
        if self._amp is None:
            return contextlib.nullcontext()
        if self._emulation is not None:
            return self._emulation.active()
        context: AbstractContextManager[None] = paddle.amp.auto_cast(
            level=self._amp.level, dtype=self._amp.dtype, use_promote=self._amp.use_promote
        )
        return context

    def scale(self, loss: paddle.Tensor) -> paddle.Tensor:
        """Return what to call `backward` on."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Step the optimizer, unless a gradient is infinite or NaN: then the step is skipped and the scale lowered."""
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)

    def values(self) -> dict[str, Any]:
        """Return the scaler's state, as JSON; exact."""
        return {} if self._scaler is None else self._scaler.values()

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what `values` returned."""
        if self._scaler is not None and values:
            self._scaler.restore(values)


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

    The rule and the operator are those of `paddle.amp.GradScaler`, which cannot be used because it switches itself off
    on a CPU and gives its counters away in part only. As there, whether to step is decided by the host, which reads
    one flag an optimizer step for that. DataParallel has summed the gradients by then, so all ranks decide alike.
    """

    def __init__(self, parameters: Sequence[paddle.Tensor], scale: float, *, dynamic: bool) -> None:
        self._parameters, self._scale, self._dynamic = parameters, float(scale), dynamic
        self._good_steps = 0
        self.skipped_steps = 0

    def scale(self, loss: paddle.Tensor) -> paddle.Tensor:
        """Return the loss times the scale."""
        return loss * self._scale

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Divide the gradients by the scale; step if all are finite; move the scale."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        with paddle.no_grad():
            _, found = _C_ops.check_finite_and_unscale_(gradients, paddle.to_tensor([self._scale]))
        overflown = bool(found)
        if overflown:
            self.skipped_steps += 1
        else:
            optimizer.step()
        if self._dynamic:
            self._move(overflown)

    def _move(self, overflown: bool) -> None:
        if overflown:
            self._scale = max(self._scale * SHRINKAGE, 1.0)
            self._good_steps = 0
            return
        self._good_steps += 1
        if self._good_steps == STEPS_TO_GROWTH:
            self._good_steps = 0
            if math.isfinite(self._scale * GROWTH):
                self._scale *= GROWTH

    def values(self) -> dict[str, Any]:
        """Return scale and counters."""
        return {"scale": self._scale, "good_steps": self._good_steps, "skipped_steps": self.skipped_steps}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what `values` returned."""
        self._scale = float(values["scale"])
        self._good_steps = int(values["good_steps"])
        self.skipped_steps = int(values["skipped_steps"])


def _require_support(dtype: str) -> None:
    supported = paddle.amp.is_float16_supported() if dtype == "float16" else paddle.amp.is_bfloat16_supported()
    if not supported:
        raise TrainingConfigError(f"AMP.dtype: {paddle.get_device()} has no {dtype}; take AMP out or choose the other")
