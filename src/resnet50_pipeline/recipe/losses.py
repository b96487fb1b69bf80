"""Losses and metrics: `training.loss`, and the `Loss` and `Metric` sections of the YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.variants import chosen_by_name
from resnet50_pipeline.recipe.yaml_form import in_order, without_none


class MultiLabelOptions(FiniteModel):
    """Options for binary cross entropy."""

    size_sum: bool = Field(default=False, description="Sum the loss over the classes instead of averaging it.")
    target_threshold: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="*native*: targets above this threshold become 1, all others 0. Procedures A1 to A3 in Wightman et "
        "al. 2021 use 0.2.",
    )


class ClassWeightOptions(FiniteModel):
    """Options for weighting classes."""

    class_weights: Literal["balanced", "effective-number"] | tuple[PositiveFloat, ...] | None = Field(
        default=None,
        description="*native*: weight of each class in the loss, for classes of different sizes. balanced: inversely "
        "proportional to the number of training images. effective-number: inversely proportional to the effective "
        "number of images (Cui et al. 2019), which favors rare classes less. Both kinds of weights are scaled to a "
        "mean of 1 over the training images. A list: one weight per class. null: no weighting.",
    )
    class_weights_beta: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="*native*: β in the effective number of n images, (1 - β^n) / (1 - β), for effective-number. 0: no "
        "weighting. Values near 1 behave like balanced. null means 0.999.",
    )

    @model_validator(mode="before")
    @classmethod
    def _replace_null_by_default(cls, content: Any) -> Any:
        return without_none(content, ("class_weights_beta",)) if isinstance(content, Mapping) else content


class CELoss(ClassWeightOptions):
    """Cross entropy."""

    name: Literal["CELoss"] = Field(default="CELoss", description="PaddleClas' name for the loss.")


class MultiLabelLoss(MultiLabelOptions):
    """Binary cross entropy per class, as in procedures A1 to A3 in "ResNet strikes back" (Wightman et al. 2021)."""

    name: Literal["MultiLabelLoss"] = Field(default="MultiLabelLoss", description="PaddleClas' name for the loss.")


Loss = Annotated[CELoss | MultiLabelLoss, chosen_by_name(CELoss, MultiLabelLoss)]


class WeightedLoss(FiniteModel):
    """Keys shared by all losses in the YAML file."""

    weight: float = Field(default=1.0, ge=1.0, le=1.0, description="Always 1, because there is only one loss.")
    epsilon: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Label smoothing: fraction of each target to distribute evenly over all classes.",
    )


class CELossConfig(WeightedLoss, ClassWeightOptions):
    """The `CELoss` section of a loss in the YAML file."""

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = in_order(without_none(serialize(self), ("class_weights",)), "weight", "epsilon")
        if self.class_weights != "effective-number":
            del values["class_weights_beta"]
        return values


class MultiLabelLossConfig(WeightedLoss, MultiLabelOptions):
    """The `MultiLabelLoss` section of a loss in the YAML file.

    Upstream's loss needs target vectors. This project's loss also accepts class ids.
    """

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_order(without_none(serialize(self), ("target_threshold",)), "weight", "epsilon")


class LossItem(FiniteModel):
    """An item in a list of losses. Exactly one of its fields is set."""

    CELoss: CELossConfig | None = None
    MultiLabelLoss: MultiLabelLossConfig | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_successor(cls, content: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(content, dict) and "MixCELoss" in content:
            # Upstream's MixCELoss raises the same error (ppcls/loss/celoss.py).
            raise ValueError("MixCELoss is deprecated; use CELoss, which also supports mixed images")
        return validate(content)

    @model_validator(mode="after")
    def _require_one_loss(self) -> Self:
        if (self.CELoss is None) == (self.MultiLabelLoss is None):
            raise ValueError("an item of a loss list must be either CELoss or MultiLabelLoss")
        return self

    @model_serializer(mode="wrap")
    def _without_the_other(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class LossConfig(FiniteModel):
    """The `Loss` section: the losses for training and evaluation."""

    Train: tuple[LossItem]
    Eval: tuple[LossItem]


class TopkAccConfig(FiniteModel):
    """The `TopkAcc` metric: accuracies for several values of k."""

    topk: tuple[int, ...]


class MetricItem(FiniteModel):
    """An item in a list of metrics."""

    TopkAcc: TopkAccConfig


class MetricConfig(FiniteModel):
    """The `Metric` section: the metrics for training and evaluation."""

    Train: tuple[MetricItem]
    Eval: tuple[MetricItem]
