"""`evaluation` and `model_registration`: what becomes of a trained network."""

from __future__ import annotations

from pydantic import Field

from resnet50_pipeline.parameters.base import ParameterModel


class EvaluationParameters(ParameterModel):
    """`evaluation`: what is computed from the predictions."""

    batch_size_per_rank: int = Field(ge=1, description="Images a rank and step.")
    worst_classes: int = Field(default=10, ge=1, description="Rows of the tables of worst classes and confused pairs.")
    gallery_images: int = Field(
        default=24, ge=0, le=200, description="Confidently wrong images that the report shows, small, inside its page."
    )


class ModelRegistrationParameters(ParameterModel):
    """`model_registration`: the exported model and its place in the registry."""

    model_name: str = Field(min_length=1, description="Name of the MLflow registered model.")
    alias: str = Field(default="candidate", description="Alias that moves to the new version.")
    export_check_images: int = Field(default=16, ge=1, description="Val images on which both are compared.")
    export_tolerance: float = Field(
        default=1e-3, gt=0, description="Largest allowed difference of a probability between the two."
    )
