"""`training.arch`, `.optimizer` and `.lr`: what is optimized, and how."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel


class ArchParameters(ParameterModel):
    """`training.arch`: the network, from `ppcls.arch`."""

    name: str = Field(default="ResNet50", description="A class of ppcls.arch's ResNet family.")
    zero_init_residual: bool = Field(
        default=False, description="The last BN scale of each block starts at 0 (Goyal et al. 2017, section 5.1)."
    )
    batch_norm_momentum: float = Field(
        default=0.9, gt=0, lt=1, description="Weight of the old running statistics (Paddle's convention)."
    )


class OptimizerParameters(ParameterModel):
    """`training.optimizer`."""

    name: Literal["Momentum"] = Field(default="Momentum", description="Optimizer by PaddleClas' name.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum factor.")
    l2_coeff: float = Field(default=1e-4, ge=0, description="L2 regularizer on every weight.")


class LearningRateParameters(ParameterModel):
    """`training.lr`: a schedule by PaddleClas' name, stepped every iteration."""

    name: Literal["Piecewise", "Cosine"] = Field(description="PaddleClas' schedule.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Cosine: the peak rate, for the whole batch of all ranks. Not for Piecewise: PaddleClas would "
        "drop decay_epochs and values in its favour without an error (ppcls/optimizer/learning_rate.py).",
    )
    warmup_epoch: int = Field(default=0, ge=0, description="Epochs of linear warm-up.")
    warmup_start_lr: float = Field(default=0.0, ge=0, description="Rate at the start of the warm-up.")
    decay_epochs: tuple[int, ...] = Field(default=(), description="Piecewise: epochs after which the rate drops.")
    values: tuple[float, ...] = Field(default=(), description="Piecewise: the rates, one more than decay_epochs.")
    eta_min: float = Field(default=0.0, ge=0, description="Cosine: the last rate.")

    @model_validator(mode="after")
    def _fit_the_schedule(self) -> Self:
        if self.name == "Cosine":
            if self.learning_rate is None:
                raise ValueError("Cosine needs learning_rate")
            if self.values or self.decay_epochs:
                raise ValueError("Cosine takes neither values nor decay_epochs")
            return self
        if self.learning_rate is not None:
            raise ValueError("Piecewise takes its rates from values; leave learning_rate out")
        if len(self.values) != len(self.decay_epochs) + 1:
            raise ValueError(
                f"Piecewise needs one more value than decay_epochs: {len(self.values)} values, "
                f"{len(self.decay_epochs)} decay_epochs"
            )
        if list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError(f"decay_epochs must rise: {list(self.decay_epochs)}")
        return self
