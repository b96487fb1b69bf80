"""Defines the artifacts, tags and metrics that are logged to MLflow when a run saves a catalog dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def _no_tags(_data: Any) -> dict[str, str]:
    return {}


def _no_metrics(_data: Any) -> dict[str, float]:
    return {}


@dataclass(frozen=True)
class LoggedDataset:
    """Artifact, tags and metrics to log when a dataset is saved.

    Attributes:
        folder: artifact folder for the saved file or folder; if "", no artifact is logged.
        tags: function that returns the tags for the data.
        metrics: function that returns the metrics for the data.
    """

    folder: str = ""
    tags: Callable[[Any], dict[str, str]] = _no_tags
    metrics: Callable[[Any], dict[str, float]] = _no_metrics


def _version_tag(model: Mapping[str, Any]) -> dict[str, str]:
    return {"registered_model": f"{model['name']} version {model['version']}"}


def _evaluation_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"evaluation/{name}": float(value) for name, value in metrics.items()}


def _training_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    names = ("best_top1", "best_epoch", "seconds", "images_per_second")
    return {f"training/{name}": float(summary[name]) for name in names}


LOGGED_DATASETS: dict[str, LoggedDataset] = {
    "validation_report": LoggedDataset("data_validation"),
    "data_docs": LoggedDataset("data_validation"),
    "label_map": LoggedDataset("data_preparation"),
    "training_summary": LoggedDataset("training", metrics=_training_metrics),
    "predictions": LoggedDataset("evaluation"),
    "evaluation_summary": LoggedDataset("evaluation"),
    "comparison": LoggedDataset("evaluation"),
    "model_card": LoggedDataset("evaluation"),
    "metrics": LoggedDataset("evaluation", metrics=_evaluation_metrics),
    "per_class_metrics": LoggedDataset("evaluation"),
    "plots": LoggedDataset("evaluation"),
    "evaluation_report": LoggedDataset("evaluation"),
    "registered_model": LoggedDataset(tags=_version_tag),
}
