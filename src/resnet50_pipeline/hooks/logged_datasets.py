"""What MLflow gets of each dataset that a run saves: the catalog on the left, the MLflow run on the right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def _no_text(_data: Any) -> dict[str, str]:
    return {}


def _no_figures(_data: Any) -> dict[str, float]:
    return {}


@dataclass(frozen=True)
class LoggedDataset:
    """What MLflow gets when Kedro has saved a dataset.

    Attributes:
        folder: of the run's artifacts, where the saved file or folder goes; "" for nowhere.
        tags: made of the data.
        metrics: made of the data.
    """

    folder: str = ""
    tags: Callable[[Any], dict[str, str]] = _no_text
    metrics: Callable[[Any], dict[str, float]] = _no_figures


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
    "training_config": LoggedDataset("training"),
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
