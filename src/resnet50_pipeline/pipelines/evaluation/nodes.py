"""Nodes of `evaluation`: predictions of a model, and what is computed and drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.parameters import DatasetParameters, EvaluationParameters, TrainingParameters
from resnet50_pipeline.training_dir import config_path


def predict_val_list(
    training_dir: Path,
    val_list: Path,
    dataset: DatasetParameters,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the predictions for every line of the val list (or `evaluation.image_list`), and how they were made."""
    from resnet50_pipeline.paddleclas.prediction import predict_list
    from resnet50_pipeline.pipelines.evaluation.subject import find_subject

    predictions, summary = predict_list(
        find_subject(training_dir, val_list, dataset, training, evaluation),
        evaluation.image_list or val_list,
        training.launch,
        batch_size_per_rank=evaluation.batch_size_per_rank,
        work_parent=evaluation.output_dir or training_dir.parent,
        image_root=evaluation.image_root or dataset.root,
    )
    return predictions, summary | {"is_val_list": evaluation.image_list is None}


def compute_metrics(
    predictions: pd.DataFrame,
    evaluation_summary: dict[str, Any],
    label_map: dict[str, Any],
    evaluation: EvaluationParameters,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the metrics of the whole list and those of each class."""
    from resnet50_pipeline.reporting import metrics, true_labels

    values = metrics.compute_metrics(predictions, evaluation_summary, evaluation.bootstrap_resamples)
    if evaluation.true_labels is not None:
        given = true_labels.read_true_labels(evaluation.true_labels)
        values |= true_labels.true_label_metrics(
            predictions, given, label_map["class_num"], evaluation.bootstrap_resamples
        )
    return values, metrics.per_class_table(predictions, label_map)


def compare_models(predictions: pd.DataFrame, evaluation: EvaluationParameters) -> dict[str, Any]:
    """Return how the model does beside the one of `evaluation.compare_with`; `rival` is None where there is none."""
    from resnet50_pipeline.pipelines.evaluation.subject import compare_with_rival

    return compare_with_rival(predictions, evaluation)


def draw_plots(
    *,
    predictions: pd.DataFrame,
    per_class_metrics: pd.DataFrame,
    label_map: dict[str, Any],
    training_history: pd.DataFrame | None,
    evaluation: EvaluationParameters,
    evaluation_summary: dict[str, Any],
) -> Path:
    """Return a new folder of pictures and of the tables behind them, for the catalog to move into place."""
    from resnet50_pipeline.reporting.plots import write_plots

    with staging_directory() as staged:
        write_plots(
            staged,
            predictions=predictions,
            per_class=per_class_metrics,
            label_map=label_map,
            training_history=training_history if evaluation_summary["is_best_checkpoint"] else None,
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
    comparison: dict[str, Any],
    training_summary: dict[str, Any] | None,
    validation_report: dict[str, Any],
    training_dir: Path,
    dataset_root: Path,
    plots: Path,
    evaluation: EvaluationParameters,
) -> tuple[str, str]:
    """Return the report as one HTML page, and the model card as Markdown, from the same facts."""
    from resnet50_pipeline.reporting.model_card import render_model_card
    from resnet50_pipeline.reporting.provenance import collect_provenance
    from resnet50_pipeline.reporting.report import ReportInputs, render_report

    is_own = evaluation_summary["is_best_checkpoint"]
    inputs = ReportInputs(
        metrics=metrics,
        predictions=predictions,
        per_class=per_class_metrics,
        label_map=label_map,
        evaluation_summary=evaluation_summary,
        comparison=comparison,
        training_summary=training_summary if is_own else None,
        validation_report=validation_report,
        recipe=config_path(training_dir).read_text(encoding="utf-8") if is_own else "",
        dataset_root=evaluation.image_root or dataset_root,
        plots_dir=plots,
        provenance=collect_provenance(Path.cwd()),
        worst_classes=evaluation.worst_classes,
        gallery_images=evaluation.gallery_images,
    )
    return render_report(inputs), render_model_card(inputs)
