"""Defines `model_registration`: the export, the gate and the registration in MLflow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from resnet50_pipeline.frozen_model import FiniteModel


class GateParameters(FiniteModel):
    """`model_registration.gate`: the conditions that a version must meet to receive an alias.

    Two more conditions always apply: all blocking expectations of the data validation are met, and the export check
    has passed.
    """

    metric: Literal["top1", "balanced_accuracy"] = Field(
        default="top1",
        description="Accuracy that the gate compares. top1: share of correctly classified images. balanced_accuracy: "
        "mean of this share over the classes, for classes of different sizes.",
    )
    min_accuracy: float = Field(default=0.0, ge=0, le=1, description="Minimum metric, a fraction from 0 to 1.")
    max_accuracy_drop: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Maximum drop in the metric compared with the champion on the same data, a fraction from 0 to 1.",
    )
    allow_other_data: bool = Field(
        default=False,
        description="Whether a version passes if the champion was evaluated on different data, so that their "
        "accuracies cannot be compared. false: the version does not pass, and a person decides (`kedro promote "
        "VERSION`).",
    )


class ModelRegistrationParameters(FiniteModel):
    """`model_registration`: the exported model and its registration in MLflow."""

    model_name: str = Field(
        max_length=256, description="Name of the MLflow registered model. It must not contain /, : or @."
    )
    alias: Literal["champion", "candidate"] = Field(
        default="champion",
        description="Alias for a version that passes the gate. With candidate, a person can then make the version the "
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
        # MLflow checks its rules only after training. In models:/name@champion, @ separates the alias.
        if not name.strip() or name == "." or name.startswith("..") or set("/:@") & set(name):
            raise ValueError(f"{name!r} is not a valid name for a registered model; set a name without /, : and @")
        return name
