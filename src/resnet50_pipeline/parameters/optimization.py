"""`training.arch`, `.loss`, `.optimizer`, `.lr` and `.amp`: what is optimized, and how."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel


class ArchParameters(ParameterModel):
    """`training.arch`: the network, from `ppcls.arch`."""

    name: str = Field(default="ResNet50", description="A class of ppcls.arch's ResNet family.")
    data_format: Literal["NCHW", "NHWC"] = Field(
        default="NCHW", description="Layout inside the network; NHWC is the faster one for AMP on tensor cores."
    )
    lr_mult_list: tuple[float, float, float, float, float] = Field(
        default=(1.0, 1.0, 1.0, 1.0, 1.0),
        description="Factors of the learning rate: stem and the four stages; the head has 1.",
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="Layers that stay as they are, BatchNorm's running statistics too; names with * and ?, as `stem` "
        "or `blocks.[0-5]`.",
    )
    zero_init_residual: bool = Field(
        default=False, description="The last BN scale of each block starts at 0 (Goyal et al. 2017, section 5.1)."
    )
    batch_norm_momentum: float = Field(
        default=0.9, gt=0, lt=1, description="Weight of the old running statistics (Paddle's convention)."
    )

    @model_validator(mode="after")
    def _keep_the_direction(self) -> Self:
        if min(self.lr_mult_list) <= 0:
            raise ValueError(
                f"lr_mult_list must be positive: {list(self.lr_mult_list)}; to hold layers fast, use freeze"
            )
        return self


class LossParameters(ParameterModel):
    """`training.loss`; `training.label_smoothing` is of its targets."""

    name: Literal["CELoss", "MultiLabelLoss"] = Field(
        default="CELoss", description="Cross entropy, or binary cross entropy of each class (timm's A1 to A3)."
    )
    size_sum: bool = Field(default=False, description="MultiLabelLoss: sum over the classes of an image, not mean.")
    target_threshold: float | None = Field(
        default=None, ge=0, lt=1, description="MultiLabelLoss: mixed targets above it become 1, the others 0."
    )

    @model_validator(mode="after")
    def _fit_the_loss(self) -> Self:
        if self.name == "CELoss" and (self.size_sum or self.target_threshold is not None):
            raise ValueError("size_sum and target_threshold are MultiLabelLoss's; CELoss takes neither")
        return self


class OptimizerParameters(ParameterModel):
    """`training.optimizer`. A value of the other optimizer is null, so that nothing is set and not obeyed."""

    name: Literal["Momentum", "AdamW"] = Field(default="Momentum", description="Optimizer by PaddleClas' name.")
    momentum: float | None = Field(default=0.9, ge=0, lt=1, description="Momentum: the factor of the old velocity.")
    use_nesterov: bool = Field(default=False, description="Momentum: look ahead, as Nesterov does.")
    l2_coeff: float | None = Field(default=1e-4, ge=0, description="Momentum: L2 regularizer.")
    beta1: float | None = Field(default=None, ge=0, lt=1, description="AdamW: decay of the mean; null is 0.9.")
    beta2: float | None = Field(default=None, ge=0, lt=1, description="AdamW: decay of the variance; null is 0.999.")
    epsilon: float | None = Field(default=None, gt=0, description="AdamW: added to the deviation; null is 1e-8.")
    weight_decay: float | None = Field(default=None, ge=0, description="AdamW: times the rate, taken off the weights.")
    no_weight_decay_name: str | None = Field(
        default=None,
        description="Parts of parameter names, between spaces; what has one of them in its name has no decay.",
    )
    one_dim_param_no_weight_decay: bool = Field(
        default=False, description="No decay of BatchNorm's scales and shifts, nor of biases."
    )
    clip_norm: float | None = Field(default=None, gt=0, description="Largest norm of each parameter's gradient.")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_the_others_defaults(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("name") == "AdamW":
            return {"momentum": None, "l2_coeff": None, **content}
        return content

    @model_validator(mode="after")
    def _fit_the_optimizer(self) -> Self:
        own = {"Momentum": ("momentum", "l2_coeff"), "AdamW": ("weight_decay",)}
        adaptive = ("beta1", "beta2", "epsilon", "weight_decay")
        others = {"Momentum": adaptive, "AdamW": ("momentum", "l2_coeff")}
        for name in own[self.name]:
            if getattr(self, name) is None:
                raise ValueError(f"{self.name} needs {name}")
        strange = [name for name in others[self.name] if getattr(self, name) is not None]
        if self.name == "AdamW" and self.use_nesterov:
            strange.append("use_nesterov")
        if strange:
            raise ValueError(f"{self.name} does not take {', '.join(strange)}; set null (use_nesterov: false)")
        return self


class LearningRateParameters(ParameterModel):
    """`training.lr`: a schedule by PaddleClas' name."""

    name: Literal["Piecewise", "Cosine", "Linear"] = Field(description="PaddleClas' schedule.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Cosine, Linear: the peak rate, for the whole batch of all ranks. Not for Piecewise: PaddleClas "
        "would drop decay_epochs and values in its favour without an error (ppcls/optimizer/learning_rate.py).",
    )
    by_epoch: bool = Field(default=False, description="The rate moves at ends of epochs only, not every step.")
    warmup_epoch: int = Field(default=0, ge=0, description="Epochs of linear warm-up.")
    warmup_start_lr: float = Field(default=0.0, ge=0, description="Rate at the start of the warm-up.")
    decay_epochs: tuple[int, ...] = Field(default=(), description="Piecewise: epochs after which the rate drops.")
    values: tuple[float, ...] = Field(default=(), description="Piecewise: the rates, one more than decay_epochs.")
    eta_min: float = Field(default=0.0, ge=0, description="Cosine: the last rate.")
    end_lr: float = Field(default=0.0, ge=0, description="Linear: the last rate.")
    power: float = Field(default=1.0, gt=0, description="Linear: the power that the line is raised to.")

    @model_validator(mode="after")
    def _fit_the_schedule(self) -> Self:
        if self.name != "Cosine" and self.eta_min:
            raise ValueError(f"eta_min is Cosine's; {self.name} does not take it")
        if self.name != "Linear" and (self.end_lr or self.power != 1):
            raise ValueError(f"end_lr and power are Linear's; {self.name} does not take them")
        if self.name == "Piecewise":
            return self._fit_piecewise()
        if self.learning_rate is None:
            raise ValueError(f"{self.name} needs learning_rate")
        if self.values or self.decay_epochs:
            raise ValueError(f"{self.name} takes neither values nor decay_epochs")
        if self.name == "Linear" and self.by_epoch and self.warmup_epoch:
            raise ValueError(
                "Linear with by_epoch takes no warmup_epoch: PaddleClas counts its warm-up in steps and its decay in "
                "epochs (ppcls/optimizer/learning_rate.py)"
            )
        return self

    def _fit_piecewise(self) -> Self:
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


class AmpParameters(ParameterModel):
    """`training.amp`: mixed precision; weights, optimizer and evaluation stay float32."""

    use_amp: bool = Field(default=False, description="Whether there is any.")
    level: Literal["O1", "O2"] = Field(
        default="O1", description="O1: convolutions and products in half precision; O2: all but a few operators."
    )
    dtype: Literal["float16", "bfloat16"] = Field(
        default="float16", description="bfloat16 needs no loss scaling, and compute capability 8.0 on NVIDIA's cards."
    )
    scale_loss: float = Field(default=128.0, ge=1, description="float16: factor of the loss, at first.")
    use_dynamic_loss_scaling: bool = Field(
        default=True,
        description="float16: halve the factor when a gradient overflows, double it after 2000 good steps.",
    )
    use_promote: bool = Field(default=False, description="O2: an operator with one float32 input computes in float32.")
    emulate_on_cpu: bool = Field(
        default=False,
        description="On a CPU, for which Paddle has no half precision: round what would be in it. A rehearsal, slow.",
    )
