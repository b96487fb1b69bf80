"""`model_registration`: the exported model, and what it must be to become the champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from resnet50_pipeline.parameters.base import ParameterModel


class GateParameters(ParameterModel):
    """`model_registration.gate`: what a version must keep to be given an alias.

    That no blocking expectation of the validation is broken, and that the export check passed, is asked for always.
    """

    min_top1: float = Field(default=0.0, ge=0, le=1, description="Lowest top-1 accuracy, 0..1.")
    max_top1_drop: float = Field(
        default=0.0, ge=0, le=1, description="How far top-1 may lie below the champion's, 0..1, on the same data."
    )
    allow_other_data: bool = Field(
        default=False,
        description="Let a version pass whose champion was measured on other data, where the two cannot be compared. "
        "Otherwise it fails, and a person decides (`kedro promote VERSION`).",
    )


class ModelRegistrationParameters(ParameterModel):
    """`model_registration`: the exported model and its place in the registry."""

    model_name: str = Field(min_length=1, description="Name of the MLflow registered model.")
    alias: Literal["champion", "candidate"] = Field(
        default="champion",
        description="Alias that moves to a version which passes the gate; with candidate a person makes it the "
        "champion (`kedro promote VERSION`).",
    )
    gate: GateParameters = GateParameters()
    export_check_images: int = Field(default=16, ge=1, description="Val images on which both are compared.")
    export_tolerance: float = Field(
        default=1e-3, gt=0, description="Largest allowed difference of a probability between the two."
    )
    onnx: bool = Field(
        default=False,
        description="Also write inference.onnx, checked likewise (extra `onnx`: paddle2onnx and onnxruntime).",
    )
