"""`Loss`, `Optimizer` and `Metric`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from resnet50_pipeline.training_config.base import Section


class CELossConfig(Section):
    """Cross entropy, with label smoothing where `epsilon` is given."""

    weight: float = Field(default=1.0, ge=1.0, le=1.0, description="The only loss there is.")
    epsilon: float | None = None


class LossItem(Section):
    """One item of a loss list."""

    CELoss: CELossConfig


class LossConfig(Section):
    """`Loss`."""

    Train: tuple[LossItem]
    Eval: tuple[LossItem]


class Piecewise(Section):
    """Constant rates between the ends of given epochs, after a linear warm-up."""

    name: Literal["Piecewise"]
    decay_epochs: tuple[int, ...]
    values: tuple[float, ...]
    warmup_epoch: int = 0
    warmup_start_lr: float = 0.0


class Cosine(Section):
    """Half a cosine from `learning_rate` to `eta_min`, after a linear warm-up."""

    name: Literal["Cosine"]
    learning_rate: float
    eta_min: float = 0.0
    warmup_epoch: int = 0
    warmup_start_lr: float = 0.0


class Regularizer(Section):
    """`coeff` times the weight is added to every gradient."""

    name: Literal["L2"]
    coeff: float


class OptimizerConfig(Section):
    """`Optimizer`."""

    name: Literal["Momentum"]
    momentum: float
    lr: Piecewise | Cosine = Field(discriminator="name")
    regularizer: Regularizer


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
