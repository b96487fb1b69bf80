"""From `training.arch`, `.loss`, `.optimizer`, `.lr`, `.amp` and `.ema_decay` to their sections of the YAML."""

from __future__ import annotations

from resnet50_pipeline.parameters import (
    AmpParameters,
    ArchParameters,
    LearningRateParameters,
    OptimizerParameters,
    TrainingParameters,
)
from resnet50_pipeline.training_config import (
    AdamWConfig,
    AMPConfig,
    ArchConfig,
    CELossConfig,
    Cosine,
    EMAConfig,
    Linear,
    LossConfig,
    LossItem,
    MomentumConfig,
    MultiLabelLossConfig,
    OptimizerConfig,
    Piecewise,
    Regularizer,
)


def render_arch(arch: ArchParameters, class_num: int) -> ArchConfig:
    """Return `Arch`."""
    return ArchConfig(class_num=class_num, **arch.model_dump())


def render_loss(training: TrainingParameters) -> LossConfig:
    """Return `Loss`; the loss of an evaluation is always the plain cross entropy."""
    epsilon, loss = training.label_smoothing or None, training.loss
    if loss.name == "CELoss":
        trained = LossItem(CELoss=CELossConfig(epsilon=epsilon))
    else:
        trained = LossItem(
            MultiLabelLoss=MultiLabelLossConfig(
                epsilon=epsilon, size_sum=loss.size_sum, target_threshold=loss.target_threshold
            )
        )
    return LossConfig(Train=(trained,), Eval=(LossItem(CELoss=CELossConfig()),))


def render_optimizer(optimizer: OptimizerParameters, lr: LearningRateParameters) -> OptimizerConfig:
    """Return `Optimizer`."""
    schedule = _render_schedule(lr)
    if optimizer.name == "AdamW":
        given = {name: getattr(optimizer, name) for name in ("beta1", "beta2", "epsilon", "weight_decay")}
        return AdamWConfig(
            name="AdamW",
            **{name: value for name, value in given.items() if value is not None},
            lr=schedule,
            no_weight_decay_name=optimizer.no_weight_decay_name,
            one_dim_param_no_weight_decay=optimizer.one_dim_param_no_weight_decay,
            clip_norm=optimizer.clip_norm,
        )
    return MomentumConfig(
        name="Momentum",
        momentum=optimizer.momentum,
        use_nesterov=optimizer.use_nesterov,
        lr=schedule,
        regularizer=Regularizer(name="L2", coeff=optimizer.l2_coeff),
        no_weight_decay_name=optimizer.no_weight_decay_name,
        one_dim_param_no_weight_decay=optimizer.one_dim_param_no_weight_decay,
        clip_norm=optimizer.clip_norm,
    )


def render_amp(amp: AmpParameters) -> AMPConfig | None:
    """Return `AMP`, or None where there is no mixed precision."""
    if not amp.use_amp:
        return None
    if amp.dtype == "bfloat16":  # it has the range of float32: nothing is scaled
        return AMPConfig(**{**amp.model_dump(), "scale_loss": 1.0, "use_dynamic_loss_scaling": False})
    return AMPConfig(**amp.model_dump())


def render_ema(decay: float | None) -> EMAConfig | None:
    """Return `EMA`, or None where nothing is averaged."""
    return None if decay is None else EMAConfig(decay=decay)


def _render_schedule(lr: LearningRateParameters) -> Piecewise | Cosine | Linear:
    shared = {"by_epoch": lr.by_epoch, "warmup_epoch": lr.warmup_epoch, "warmup_start_lr": lr.warmup_start_lr}
    if lr.name == "Piecewise":
        return Piecewise(name="Piecewise", decay_epochs=lr.decay_epochs, values=lr.values, **shared)
    if lr.name == "Cosine":
        return Cosine(name="Cosine", learning_rate=lr.learning_rate, eta_min=lr.eta_min, **shared)
    return Linear(name="Linear", learning_rate=lr.learning_rate, end_lr=lr.end_lr, power=lr.power, **shared)
