"""Implements mixed precision: autocast, and loss scaling to keep small float16 gradients from underflowing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import paddle
from paddle import _C_ops

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.precision import AMPConfig

# Defaults of paddle.amp.GradScaler, which upstream does not change (ppcls/utils/amp.py).
GROWTH, SHRINKAGE, STEPS_TO_GROWTH = 2.0, 0.5, 2000


class Precision:
    """Applies a run's `AMP` section. Without an `AMP` section, training uses float32.

    Weights and optimizer state are always float32. Even O2 needs no separate master weights, because Paddle casts the
    inputs of an operator, including the weights, at each call. Checkpoint sets, averages and evaluations are therefore
    the same at all levels.
    """

    def __init__(self, amp: AMPConfig | None, network: paddle.nn.Layer) -> None:
        """Prepare mixed precision for a network.

        Raises:
            TrainingConfigError: if the device does not support the dtype. Paddle itself would silently use float32.
        """
        self._amp = amp if amp is not None and amp.use_amp else None
        self._scaler: LossScaler | None = None
        if self._amp is None:
            return
        if self._amp.dtype == "float16":
            trained = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
            self._scaler = LossScaler(trained, self._amp.scale_loss, dynamic=self._amp.use_dynamic_loss_scaling)
        _require_support(self._amp.dtype)
        # Upstream sets the same flag (ppcls/engine/engine.py).
        paddle.set_flags({"FLAGS_max_inplace_grad_add": 8})

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context for the forward pass of a training step."""
        if self._amp is None:
            return contextlib.nullcontext()
        context: AbstractContextManager[None] = paddle.amp.auto_cast(
            level=self._amp.level, dtype=self._amp.dtype, use_promote=self._amp.use_promote
        )
        return context

    def scale(self, loss: paddle.Tensor) -> paddle.Tensor:
        """Return the loss to call `backward` on."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def step(self, optimizer: paddle.optimizer.Optimizer, before_update: Callable[[], None] = lambda: None) -> None:
        """Step the optimizer. If a gradient is infinite or NaN, skip the step and lower the scale instead.

        Unless the step is skipped, `before_update` is called after the gradients are final and before the weights
        change.
        """
        if self._scaler is None:
            before_update()
            optimizer.step()
        else:
            self._scaler.step(optimizer, before_update)

    @property
    def loss_scale(self) -> float | None:
        """The dynamic loss scale for the next step. None if the scale does not change."""
        return None if self._scaler is None or not self._scaler.is_dynamic else self._scaler.scale_value

    @property
    def skipped_steps(self) -> int | None:
        """Number of steps skipped since training started. None without a loss scale."""
        return None if self._scaler is None else self._scaler.skipped_steps

    def values(self) -> dict[str, Any]:
        """Return the state of the loss scaler as JSON-serializable values, or {} if there is no scaler."""
        return {} if self._scaler is None else self._scaler.values()

    def restore(self, values: Mapping[str, Any]) -> None:
        """Restore the state of the loss scaler from values returned by `values()`."""
        if self._scaler is not None and values:
            self._scaler.restore(values)


class LossScaler:
    """Implements dynamic loss scaling (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

    This class follows the same rule as `paddle.amp.GradScaler` and calls the same operator. GradScaler itself cannot be
    used because it disables itself on a CPU and hides counters that are needed for an exact resume. As in GradScaler,
    the host reads one flag per optimizer step to decide whether to skip the step. By then, the gradients have been
    averaged over all ranks, so all ranks make the same decision.
    """

    def __init__(self, parameters: Sequence[paddle.Tensor], scale: float, *, dynamic: bool) -> None:
        self._parameters, self.scale_value, self.is_dynamic = parameters, float(scale), dynamic
        self._good_steps = 0
        self.skipped_steps = 0

    def scale(self, loss: paddle.Tensor) -> paddle.Tensor:
        """Return the loss times the scale."""
        return loss * self.scale_value

    def step(self, optimizer: paddle.optimizer.Optimizer, before_update: Callable[[], None] = lambda: None) -> None:
        """Divide the gradients by the scale, step the optimizer if all gradients are finite, and update the scale."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        with paddle.no_grad():
            _, found = _C_ops.check_finite_and_unscale_(gradients, paddle.to_tensor([self.scale_value]))
        has_overflow = bool(found)
        if has_overflow:
            self.skipped_steps += 1
        else:
            before_update()
            optimizer.step()
        if self.is_dynamic:
            self._update_scale(has_overflow)

    def _update_scale(self, has_overflow: bool) -> None:
        if has_overflow:
            self.scale_value = max(self.scale_value * SHRINKAGE, 1.0)
            self._good_steps = 0
            return
        self._good_steps += 1
        if self._good_steps == STEPS_TO_GROWTH:
            self._good_steps = 0
            if math.isfinite(self.scale_value * GROWTH):
                self.scale_value *= GROWTH

    def values(self) -> dict[str, Any]:
        """Return the scale and the counters."""
        return {"scale": self.scale_value, "good_steps": self._good_steps, "skipped_steps": self.skipped_steps}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Restore the scale and the counters from values returned by `values()`."""
        self.scale_value = float(values["scale"])
        self._good_steps = int(values["good_steps"])
        self.skipped_steps = int(values["skipped_steps"])


def _require_support(dtype: str) -> None:
    if paddle.get_device() == "cpu":
        raise TrainingConfigError(
            f"AMP: Paddle has no {dtype} operators for CPUs and would silently use float32; remove the AMP section "
            "(training.amp)"
        )
    supported = paddle.amp.is_float16_supported() if dtype == "float16" else paddle.amp.is_bfloat16_supported()
    if not supported:
        raise TrainingConfigError(
            f"AMP.dtype: {paddle.get_device()} does not support {dtype}; choose the other dtype, or remove the AMP "
            "section (training.amp)"
        )
