"""Defines what is logged to MLflow when a run saves a catalog dataset: artifacts, tags and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.reporting.run_pages.results import name_metrics

if TYPE_CHECKING:
    import pandas as pd


def _no_tags(_data: Any) -> dict[str, str]:
    return {}


def _no_metrics(_data: Any) -> dict[str, float]:
    return {}


def _always(_data: Any) -> bool:
    return True


def _has_rows(table: pd.DataFrame) -> bool:
    return not table.empty


@dataclass(frozen=True)
class LoggedDataset:
    """Artifact, tags and metrics to log when a dataset is saved.

    Attributes:
        folder: artifact folder for the saved file or folder; if "", no artifact is logged.
        tags: function that returns the tags for the data.
        metrics: function that returns the metrics for the data.
        has_artifact: function that returns whether the artifact is logged for the data.
    """

    folder: str = ""
    tags: Callable[[Any], dict[str, str]] = _no_tags
    metrics: Callable[[Any], dict[str, float]] = _no_metrics
    has_artifact: Callable[[Any], bool] = _always


def _version_tag(model: Mapping[str, Any]) -> dict[str, str]:
    return {"registered_model": f"{model['name']} version {model['version']}"}


def _training_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    results = {f"training/{name}": float(summary[name]) for name in ("best_top1", "best_epoch")}
    speeds = {f"speed/training_{name}": float(summary[name]) for name in ("seconds", "images_per_second")}
    return results | speeds


def _restart_tag(summary: Mapping[str, Any]) -> dict[str, str]:
    restarts = summary.get("restarts", 0)  # a summary from DVC's cache may be older
    return {"restarts": str(restarts)} if restarts else {}


def _robustness_metrics(table: pd.DataFrame) -> dict[str, float]:
    from resnet50_pipeline.reporting.data_quality.robustness import robustness_metrics

    return {f"robustness/{name}": value for name, value in robustness_metrics(table).items()}


LOGGED_DATASETS: dict[str, LoggedDataset] = {
    "validation_report": LoggedDataset("data_validation"),
    "data_docs": LoggedDataset("data_validation"),
    "label_map": LoggedDataset("data_preparation"),
    "training_summary": LoggedDataset("training", tags=_restart_tag, metrics=_training_metrics),
    "predictions": LoggedDataset("evaluation"),
    "evaluation_summary": LoggedDataset("evaluation"),
    "comparison": LoggedDataset("evaluation"),
    "model_card": LoggedDataset("evaluation"),
    "metrics": LoggedDataset("evaluation", metrics=name_metrics),
    "per_class_metrics": LoggedDataset("evaluation"),
    "label_issues": LoggedDataset("evaluation"),
    "slices": LoggedDataset("evaluation"),
    "robustness": LoggedDataset("evaluation", metrics=_robustness_metrics, has_artifact=_has_rows),
    "plots": LoggedDataset("evaluation"),
    "evaluation_report": LoggedDataset("evaluation"),
    "registered_model": LoggedDataset(tags=_version_tag),
}
