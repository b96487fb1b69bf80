"""Defines `model_registration`: the export, the gate and the registration in MLflow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from resnet50_pipeline.frozen_model import FiniteModel


class GateParameters(FiniteModel):
    """`model_registration.gate`: the conditions that a version must meet to receive an alias.

    Two conditions always apply: no blocking expectation of the data validation has failed, and the export check has
    passed.
    """

    metric: Literal["top1", "balanced_accuracy"] = Field(
        default="top1",
        description="Metric that the gate checks. top1: fraction of correctly classified images. balanced_accuracy: "
        "mean of the per-class accuracies, for classes of different sizes.",
    )
    min_accuracy: float = Field(
        default=0.0, ge=0, le=1, description="Minimum value of the metric, a fraction from 0 to 1."
    )
    max_accuracy_drop: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Maximum drop in the metric relative to the champion on the same data, a fraction from 0 to 1.",
    )
    allow_other_data: bool = Field(
        default=False,
        description="Whether a version can pass even if it cannot be compared with the champion, because the champion "
        "was evaluated on different data. false: the version does not pass, but a person can still promote it (`kedro "
        "promote VERSION`).",
    )


class ModelRegistrationParameters(FiniteModel):
    """`model_registration`: the exported model and its registration in MLflow."""

    model_name: str = Field(
        max_length=256, description="Name of the MLflow registered model. It must not contain /, : or @."
    )
    alias: Literal["champion", "candidate"] = Field(
        default="champion",
        description="Alias for a version that passes the gate. With candidate, a person promotes the version to "
        "champion (`kedro promote VERSION`).",
    )
    gate: GateParameters = GateParameters()
    export_check_images: int = Field(
        default=16, ge=1, description="Number of val images used to compare the exported model with the checkpoint."
    )
    export_tolerance: float = Field(
        default=1e-3,
        gt=0,
        description="Maximum difference between the probabilities of the exported model and the checkpoint.",
    )
    onnx: bool = Field(
        default=False,
        description="Whether to also write and check inference.onnx (extra `onnx`: paddle2onnx and onnxruntime).",
    )

    @field_validator("model_name")
    @classmethod
    def _require_mlflow_name(cls, name: str) -> str:
        # MLflow would reject the name only after training. In models:/name@champion, @ separates the alias.
        if not name.strip() or name == "." or name.startswith("..") or set("/:@") & set(name):
            raise ValueError(f"{name!r} is not a valid name for a registered model; choose a name without /, : and @")
        return name
