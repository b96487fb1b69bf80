"""`tracking`: where MLflow runs go."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from resnet50_pipeline.parameters.base import ParameterModel


class TrackingParameters(ParameterModel):
    """`tracking`: where MLflow runs go."""

    uri: str = Field(description="MLflow tracking URI. A relative sqlite:/// path is taken from the project folder.")
    experiment: str = Field(min_length=1, description="Name of the MLflow experiment.")
    artifact_root: Path = Field(description="Folder for artifacts where the URI is a database file.")
    system_metrics_interval_seconds: float | None = Field(
        default=None,
        ge=1,
        description="Time between two looks at CPU, memory, disk, network and GPUs during a run; null: none.",
    )
