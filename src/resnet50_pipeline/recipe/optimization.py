"""Optimizers and learning rate schedules: `training.optimizer`, `training.lr`, and the YAML file's `Optimizer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.variants import chosen_by_name
from resnet50_pipeline.recipe.yaml_form import in_order, without_none
from resnet50_pipeline.text import pluralize

_PRECISION = "Has no effect: weights are float32 with or without AMP."


class Warmup(FiniteModel):
    """Fields shared by all schedules: the linear warm-up and the interval between changes of the rate."""

    warmup_epoch: int = Field(default=0, ge=0, description="Epochs of linear warm-up.")
    warmup_start_lr: float = Field(default=0.0, ge=0, description="Rate at the start of the warm-up.")
    by_epoch: bool = Field(default=False, description="Change the rate after each epoch instead of after each step.")

    def _require_rising_warmup(self, peak: float) -> Self:
        if self.warmup_epoch and self.warmup_start_lr > peak:
            raise ValueError(
                f"warmup_start_lr {self.warmup_start_lr:g} must not exceed {peak:g}, the rate after the warm-up"
            )
        return self


class Piecewise(Warmup):
    """A piecewise constant learning rate that changes after the given epochs.

    It has no `learning_rate` field, because if the field were set, PaddleClas would silently ignore `decay_epochs` and
    `values` (ppcls/optimizer/learning_rate.py).
    """

    name: Literal["Piecewise"] = Field(description="PaddleClas' name for the schedule.")
    decay_epochs: tuple[int, ...] = Field(
        default=(), description="Epochs after which the rate changes, ascending, counted from the end of the warm-up."
    )
    values: tuple[float, ...] = Field(description="Learning rates, one more than decay_epochs.")

    @model_validator(mode="after")
    def _require_one_value_per_interval(self) -> Self:
        if len(self.values) != len(self.decay_epochs) + 1:
            raise ValueError(
                f"Piecewise needs one more value than decay_epochs, but has {pluralize(len(self.values), 'value')} for "
                f"{len(self.decay_epochs)} decay_epochs; set {pluralize(len(self.decay_epochs) + 1, 'value')}"
            )
        if list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError(f"decay_epochs must be ascending, but are {list(self.decay_epochs)}")
        if min(self.decay_epochs, default=1) < 1:
            raise ValueError(f"decay_epochs must be at least 1, but are {list(self.decay_epochs)}")
        if min(self.values) < 0:
            raise ValueError(f"values must not be negative, but are {list(self.values)}")
        if self.values[0] == 0:
            raise ValueError(
                "values must start with a positive rate (otherwise the first epochs train nothing), but are "
                f"{list(self.values)}"
            )
        return self._require_rising_warmup(self.values[0])


class Cosine(Warmup):
    """Decay from `learning_rate` to `eta_min` along half a cosine."""

    name: Literal["Cosine"] = Field(description="PaddleClas' name for the schedule.")
    learning_rate: float = Field(gt=0, description="Peak rate for the combined batch of all ranks.")
    eta_min: float = Field(default=0.0, ge=0, description="Final rate.")

    @model_validator(mode="after")
    def _require_decay(self) -> Self:
        if self.eta_min > self.learning_rate:
            raise ValueError(f"eta_min {self.eta_min:g} must not exceed learning_rate {self.learning_rate:g}")
        return self._require_rising_warmup(self.learning_rate)


class Linear(Warmup):
    """Linear decay from `learning_rate` to `end_lr`, or polynomial decay if `power` is not 1."""

    name: Literal["Linear"] = Field(description="PaddleClas' name for the schedule.")
    learning_rate: float = Field(gt=0, description="Peak rate for the combined batch of all ranks.")
    end_lr: float = Field(default=0.0, ge=0, description="Final rate.")
    power: float = Field(default=1.0, gt=0, description="Exponent of the decay. 1: linear decay.")

    @model_validator(mode="after")
    def _require_decay(self) -> Self:
        if self.end_lr > self.learning_rate:
            raise ValueError(f"end_lr {self.end_lr:g} must not exceed learning_rate {self.learning_rate:g}")
        return self._require_rising_warmup(self.learning_rate)

    @model_validator(mode="after")
    def _require_warmup_in_steps(self) -> Self:
        if self.by_epoch and self.warmup_epoch:
            raise ValueError(
                f"Linear does not support warmup_epoch ({self.warmup_epoch}) together with by_epoch: PaddleClas counts "
                "the warm-up in steps and the decay in epochs (ppcls/optimizer/learning_rate.py); set by_epoch: false"
            )
        return self


Schedule = Annotated[Piecewise | Cosine | Linear, chosen_by_name(Piecewise, Cosine, Linear)]


class WeightDecayRules(FiniteModel):
    """Fields shared by both optimizers: exemptions from weight decay, and gradient clipping."""

    no_weight_decay_name: str | None = Field(
        default=None,
        description="Substrings of parameter names, separated by spaces. Matching parameters have no weight decay.",
    )
    one_dim_param_no_weight_decay: bool = Field(
        default=False,
        description="Exclude biases and BatchNorm's scales and shifts from weight decay. Upstream's Momentum ignores "
        "this setting, or, if no_weight_decay_name is set, applies no weight decay at all "
        "(ppcls/optimizer/optimizer.py).",
    )
    clip_norm: float | None = Field(default=None, gt=0, description="Maximum norm of each parameter's gradient.")


class Momentum(WeightDecayRules):
    """SGD with momentum."""

    name: Literal["Momentum"] = Field(default="Momentum", description="PaddleClas' name for the optimizer.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Factor for the previous velocity.")
    use_nesterov: bool = Field(default=False, description="Whether to use Nesterov momentum.")
    l2_coeff: float = Field(
        default=1e-4, ge=0, description="L2 regularization: adds this value times the weight to the gradient."
    )


class AdamW(WeightDecayRules):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["AdamW"] = Field(default="AdamW", description="PaddleClas' name for the optimizer.")
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="Decay of the running mean of the gradients; null means 0.9."
    )
    beta2: float = Field(
        default=0.999, ge=0, lt=1, description="Decay of the running mean of the squared gradients; null means 0.999."
    )
    epsilon: float = Field(default=1e-8, gt=0, description="Small number added to the denominator; null means 1e-8.")
    weight_decay: float = Field(
        ge=0, description="Weight decay: each step subtracts the weight times the learning rate times this value."
    )

    @model_validator(mode="before")
    @classmethod
    def _replace_null_by_default(cls, content: Any) -> Any:
        return without_none(content, ("beta1", "beta2", "epsilon")) if isinstance(content, Mapping) else content


Optimizer = Annotated[Momentum | AdamW, chosen_by_name(Momentum, AdamW)]


class MomentumConfig(Momentum):
    """The `Optimizer` section for `Momentum`, with the schedule. In the YAML file, `l2_coeff` is a `regularizer`."""

    yaml_order: ClassVar = ("name", "momentum", "use_nesterov", "multi_precision", "lr", "regularizer")

    multi_precision: bool = Field(default=True, description=_PRECISION)
    lr: Schedule

    @model_validator(mode="before")
    @classmethod
    def _read_regularizer(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or "regularizer" not in content:
            return content
        regularizer = content["regularizer"]
        if not isinstance(regularizer, Mapping) or {**regularizer, "coeff": 0} != {"name": "L2", "coeff": 0}:
            raise ValueError(f"regularizer is {regularizer!r}; it must be {{name: L2, coeff: …}}")
        rest = {key: value for key, value in content.items() if key != "regularizer"}
        return {**rest, "l2_coeff": regularizer["coeff"]}

    @model_serializer(mode="wrap")
    def _write_regularizer(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = without_none(serialize(self), ("clip_norm",))
        values["regularizer"] = {"name": "L2", "coeff": values.pop("l2_coeff")}
        return in_order(values, *self.yaml_order)


class AdamWConfig(AdamW):
    """The `Optimizer` section for `AdamW`, with the schedule."""

    yaml_order: ClassVar = ("name", "beta1", "beta2", "epsilon", "weight_decay", "multi_precision", "lr")

    multi_precision: bool = Field(default=False, description=_PRECISION)
    lr: Schedule

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_order(without_none(serialize(self), ("clip_norm",)), *self.yaml_order)


OptimizerConfig = Annotated[MomentumConfig | AdamWConfig, chosen_by_name(MomentumConfig, AdamWConfig)]
