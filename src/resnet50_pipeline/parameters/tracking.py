"""Defines `tracking`: the MLflow store, the experiment and the system metrics."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from resnet50_pipeline.frozen_model import FiniteModel


class TrackingParameters(FiniteModel):
    """`tracking`: the MLflow store, the experiment and the system metrics."""

    uri: str = Field(description="MLflow tracking URI. A sqlite:/// path may be relative to the project folder.")
    experiment: str = Field(min_length=1, max_length=500, description="Name of the MLflow experiment.")
    artifact_root: Path = Field(
        description="Folder for artifacts. Has no effect with an MLflow server, which stores artifacts itself."
    )
    system_metrics_interval_seconds: float | None = Field(
        default=None,
        ge=1,
        description="Sampling interval for CPU, memory, disk, network and GPU usage. null: no sampling.",
    )
