"""`Loss`, `Optimizer`, `AMP`, `EMA` and `Metric`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, SerializerFunctionWrapHandler, model_serializer, model_validator

from resnet50_pipeline.training_config.base import Section


def _without_none(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Leave out a key without a value where upstream takes the key alone for a wish."""
    return {key: value for key, value in values.items() if key != name or value is not None}


class CELossConfig(Section):
    """Cross entropy, with label smoothing where `epsilon` is given."""

    weight: float = Field(default=1.0, ge=1.0, le=1.0, description="The only loss there is.")
    epsilon: float | None = Field(
        default=None, gt=0, lt=1, description="Share of every target spread over all classes."
    )


class MultiLabelLossConfig(Section):
    """Binary cross entropy of every class on its own, as Wightman et al. 2021 train ("ResNet strikes back", A1 to A3).

    Upstream's name; there its targets must be vectors, here labels will do.
    """

    weight: float = Field(default=1.0, ge=1.0, le=1.0, description="The only loss there is.")
    epsilon: float | None = Field(
        default=None, gt=0, lt=1, description="Share of every target spread over all classes."
    )
    size_sum: bool = Field(default=False, description="Sum over the classes of an image, not mean.")
    target_threshold: float | None = Field(
        default=None, ge=0, lt=1, description="*native*: targets above it become 1, the others 0 (A1 to A3: 0.2)."
    )

    @model_serializer(mode="wrap")
    def _without_what_upstream_would_not_take(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(serialize(self), "target_threshold")


class LossItem(Section):
    """One item of a loss list: exactly one of the losses."""

    CELoss: CELossConfig | None = None
    MultiLabelLoss: MultiLabelLossConfig | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_successor(cls, content: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(content, dict) and "MixCELoss" in content:
            # Upstream's class of that name raises the same (ppcls/loss/celoss.py).
            raise ValueError("MixCELoss is deprecated; CELoss takes mixed images too")
        return validate(content)

    @model_validator(mode="after")
    def _hold_one_loss(self) -> Self:
        if (self.CELoss is None) == (self.MultiLabelLoss is None):
            raise ValueError("an item of a loss list is one of CELoss, MultiLabelLoss")
        return self

    @model_serializer(mode="wrap")
    def _without_the_other(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class LossConfig(Section):
    """`Loss`."""

    Train: tuple[LossItem]
    Eval: tuple[LossItem]


class ScheduleSection(Section):
    """What all schedules share: a linear warm-up, and the unit in which they move."""

    warmup_epoch: int = Field(default=0, ge=0)
    warmup_start_lr: float = Field(default=0.0, ge=0)
    by_epoch: bool = Field(default=False, description="The rate moves at ends of epochs only, not every step.")


class Piecewise(ScheduleSection):
    """Constant rates between the ends of given epochs, after a linear warm-up."""

    name: Literal["Piecewise"]
    decay_epochs: tuple[int, ...]
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if len(self.values) != len(self.decay_epochs) + 1:
            raise ValueError(
                f"one more of values than of decay_epochs is needed: {len(self.values)} values, "
                f"{len(self.decay_epochs)} decay_epochs"
            )
        return self


class Cosine(ScheduleSection):
    """Half a cosine from `learning_rate` to `eta_min`, after a linear warm-up."""

    name: Literal["Cosine"]
    learning_rate: float
    eta_min: float = 0.0


class Linear(ScheduleSection):
    """A power of a straight line from `learning_rate` to `end_lr`, after a linear warm-up."""

    name: Literal["Linear"]
    learning_rate: float
    end_lr: float = 0.0
    power: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _warm_up_in_steps(self) -> Self:
        if self.by_epoch and self.warmup_epoch:
            raise ValueError(
                "Linear with by_epoch takes no warmup_epoch: PaddleClas counts its warm-up in steps and its decay in "
                "epochs (ppcls/optimizer/learning_rate.py); set by_epoch: false"
            )
        return self


class Regularizer(Section):
    """`coeff` times the weight is added to every gradient."""

    name: Literal["L2"]
    coeff: float


class MomentumConfig(Section):
    """`Optimizer`: SGD with momentum."""

    name: Literal["Momentum"]
    momentum: float
    use_nesterov: bool = False
    multi_precision: bool = Field(default=True, description="Weights are float32 here, whatever AMP is: no difference.")
    lr: Piecewise | Cosine | Linear = Field(discriminator="name")
    regularizer: Regularizer
    no_weight_decay_name: str | None = Field(
        default=None, description="Parts of names, between spaces: no L2 on the parameters that have one in theirs."
    )
    one_dim_param_no_weight_decay: bool = Field(
        default=False,
        description="No L2 on scales and shifts of BatchNorm, and biases. Upstream's Momentum obeys it only where "
        "no_weight_decay_name is given too, and has no L2 at all then (ppcls/optimizer/optimizer.py).",
    )
    clip_norm: float | None = Field(default=None, gt=0, description="Largest norm of each parameter's gradient.")

    @model_serializer(mode="wrap")
    def _without_what_upstream_would_not_take(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(serialize(self), "clip_norm")


class AdamWConfig(Section):
    """`Optimizer`: Adam with decay apart from the gradient (Loshchilov and Hutter 2019)."""

    name: Literal["AdamW"]
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(ge=0)
    multi_precision: bool = Field(
        default=False, description="Weights are float32 here, whatever AMP is: no difference."
    )
    lr: Piecewise | Cosine | Linear = Field(discriminator="name")
    no_weight_decay_name: str | None = None
    one_dim_param_no_weight_decay: bool = False
    clip_norm: float | None = Field(default=None, gt=0, description="Largest norm of each parameter's gradient.")

    @model_serializer(mode="wrap")
    def _without_what_upstream_would_not_take(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(serialize(self), "clip_norm")


OptimizerConfig = MomentumConfig | AdamWConfig


class AMPConfig(Section):
    """`AMP`: automatic mixed precision. Weights, optimizer and evaluation stay float32."""

    use_amp: bool = True
    use_fp16_test: Literal[False] = Field(default=False, description="Evaluation is float32, as the exported model is.")
    scale_loss: float = Field(default=128.0, ge=1, description="Factor of the loss, at first.")
    use_dynamic_loss_scaling: bool = True
    use_promote: bool = Field(default=False, description="O2: an operator with one float32 input computes in float32.")
    level: Literal["O1", "O2"] = Field(default="O1", description="O1: convolutions and products; O2: all but few.")
    dtype: Literal["float16", "bfloat16"] = Field(
        default="float16", description="*native*: upstream's AMP is always float16."
    )
    emulate_on_cpu: bool = Field(
        default=False,
        description="*native*: on a CPU, for which Paddle has no half precision, round what would be in it.",
    )

    @model_validator(mode="after")
    def _scale_what_underflows(self) -> Self:
        if self.dtype == "bfloat16" and (self.use_dynamic_loss_scaling or self.scale_loss != 1):
            raise ValueError(
                "bfloat16 has the range of float32, so that no loss is scaled: set scale_loss: 1.0 and "
                "use_dynamic_loss_scaling: false"
            )
        return self


class EMAConfig(Section):
    """`EMA`: evaluate and export a moving average of the weights."""

    decay: float = Field(default=0.9999, ge=0, lt=1, description="Weight of the old average at every optimizer step.")


class TopkAccConfig(Section):
    """Accuracies of the best k guesses."""

    topk: tuple[int, ...]


class MetricItem(Section):
    """One item of a metric list."""

    TopkAcc: TopkAccConfig


class MetricConfig(Section):
    """`Metric`."""

    Train: tuple[MetricItem]
    Eval: tuple[MetricItem]
