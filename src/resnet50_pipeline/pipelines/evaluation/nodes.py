"""Nodes of `evaluation`: predictions of the best checkpoint, and what is computed and drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.parameters import EvaluationParameters, TrainingParameters
from resnet50_pipeline.training_dir import config_path


def predict_val_list(
    training_dir: Path,
    val_list: Path,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the predictions for every line of the val list, and how they were made."""
    from resnet50_pipeline.paddleclas.prediction import predict_list

    return predict_list(training_dir, val_list, training.launch, evaluation.batch_size_per_rank)


def compute_metrics(
    predictions: pd.DataFrame, evaluation_summary: dict[str, Any], label_map: dict[str, Any]
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the metrics of the whole list and those of each class."""
    from resnet50_pipeline.reporting import metrics

    return metrics.compute_metrics(predictions, evaluation_summary), metrics.per_class_table(predictions, label_map)


def draw_plots(
    predictions: pd.DataFrame,
    per_class_metrics: pd.DataFrame,
    label_map: dict[str, Any],
    training_history: pd.DataFrame,
    evaluation: EvaluationParameters,
) -> Path:
    """Return a new folder of pictures, for the catalog to move into place."""
    from resnet50_pipeline.reporting.plots import write_plots

    with staging_directory() as staged:
        write_plots(
            staged,
            predictions=predictions,
            per_class=per_class_metrics,
            label_map=label_map,
            training_history=training_history,
            worst_pairs=evaluation.worst_classes,
        )
    return staged


def write_evaluation_report(
    *,
    metrics: dict[str, float],
    predictions: pd.DataFrame,
    per_class_metrics: pd.DataFrame,
    label_map: dict[str, Any],
    evaluation_summary: dict[str, Any],
    training_summary: dict[str, Any],
    validation_report: dict[str, Any],
    training_dir: Path,
    dataset_root: Path,
    plots: Path,
    evaluation: EvaluationParameters,
) -> str:
    """Return the report as one HTML page."""
    from resnet50_pipeline.reporting.provenance import collect_provenance
    from resnet50_pipeline.reporting.report import ReportInputs, render_report

    return render_report(
        ReportInputs(
            metrics=metrics,
            predictions=predictions,
            per_class=per_class_metrics,
            label_map=label_map,
            evaluation_summary=evaluation_summary,
            training_summary=training_summary,
            validation_report=validation_report,
            recipe=config_path(training_dir).read_text(encoding="utf-8"),
            dataset_root=dataset_root,
            plots_dir=plots,
            provenance=collect_provenance(Path.cwd()),
            worst_classes=evaluation.worst_classes,
            gallery_images=evaluation.gallery_images,
        )
    )
