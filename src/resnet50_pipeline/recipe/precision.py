"""Mixed precision and weight averaging: `training.amp`, and the `AMP` and `EMA` sections of the YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.yaml_form import in_order


class Amp(FiniteModel):
    """Automatic mixed precision. Weights, optimizer state and evaluation stay in float32."""

    use_amp: bool = Field(default=False, description="Whether to train with mixed precision.")
    scale_loss: float = Field(default=128.0, ge=1, description="float16: initial loss scale.")
    use_dynamic_loss_scaling: bool = Field(
        default=True,
        description="float16: whether to halve the loss scale when a gradient overflows and double it after 2000 steps "
        "without an overflow.",
    )
    use_promote: bool = Field(
        default=False, description="O2: whether operators with at least one float32 input run in float32."
    )
    level: Literal["O1", "O2"] = Field(
        default="O1",
        description="Operators that run in half precision. O1: convolutions and matrix products. O2: nearly all.",
    )
    dtype: Literal["float16", "bfloat16"] = Field(
        default="float16",
        description="*native*: half-precision type. bfloat16 does not need loss scaling, but requires compute "
        "capability 8.0 or higher on NVIDIA GPUs. Upstream always uses float16.",
    )

    @model_validator(mode="before")
    @classmethod
    def _scale_float16_only(cls, content: Any) -> Any:
        # bfloat16 has the same range as float32, so gradients do not underflow.
        if isinstance(content, Mapping) and content.get("dtype") == "bfloat16":
            return {**content, "scale_loss": 1.0, "use_dynamic_loss_scaling": False}
        return content


class AMPConfig(Amp):
    """The `AMP` section of the YAML file."""

    use_amp: bool = True
    use_fp16_test: Literal[False] = Field(
        default=False, description="Always false, because evaluation and the exported model use float32."
    )

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_order(serialize(self), "use_amp", "use_fp16_test")


class EMAConfig(FiniteModel):
    """The `EMA` section of the YAML file: the moving average of the weights, which is evaluated and exported."""

    decay: float = Field(
        default=0.9999, ge=0, lt=1, description="Weight of the previous average at each optimizer step."
    )
