"""Nodes of the `evaluation` pipeline: predict, compute metrics, compare models, draw figures and write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    TrainingParameters,
)
from resnet50_pipeline.training_dir import config_path


def predict_val_list(
    *,
    training_dir: Path,
    val_list: Path,
    shards: Path,
    manifest_file: Path,
    scan_cache_folder: Path,
    label_map: dict[str, Any],
    dataset_root: Path,
    dataset: DatasetParameters,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the predictions for the list of `evaluation.split`, along with a summary of the evaluation.

    If `evaluation.image_list` is set, it is used instead. Before the ranks start, the images of the split are compared
    with the manifest from data_validation.
    """
    from resnet50_pipeline.imagenet.image_check import require_validated_images
    from resnet50_pipeline.imagenet.layout import require_test_list
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.imagenet.shards.shard_set import resolve_shards
    from resnet50_pipeline.paddleclas.prediction import predict_list
    from resnet50_pipeline.pipelines.evaluation.models import find_evaluated_model

    split, class_num = evaluation.split, label_map["class_num"]
    split_list = val_list if split == "val" else require_test_list(dataset_root, dataset)
    # Shards contain only the images of the prepared train and val lists.
    used_shards = resolve_shards(shards) if evaluation.image_list is None and split == "val" else None
    if evaluation.image_list is None:
        require_validated_images(
            dataset_root,
            {split: read_list_file(split_list, class_num)},
            manifest_file,
            shards=used_shards,
            cache_dir=scan_cache_folder,
        )
    predictions, summary = predict_list(
        find_evaluated_model(
            training_dir=training_dir,
            val_list=val_list,
            dataset_root=dataset_root,
            class_num=class_num,
            dataset=dataset,
            training=training,
            evaluation=evaluation,
        ),
        evaluation.image_list or split_list,
        training.launch,
        batch_size_per_rank=evaluation.batch_size_per_rank,
        work_parent=evaluation.output_dir or training_dir.parent,
        image_root=evaluation.image_root or dataset_root,
        shards=used_shards,
    )
    return predictions, summary | {"split": split if evaluation.image_list is None else None}


def compute_metrics(
    predictions: pd.DataFrame,
    evaluation_summary: dict[str, Any],
    label_map: dict[str, Any],
    evaluation: EvaluationParameters,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the metrics over all images and the table of per-class metrics."""
    from resnet50_pipeline.reporting import metrics, true_labels

    values = metrics.compute_metrics(predictions, evaluation_summary, evaluation.bootstrap_resamples)
    if evaluation.true_labels is not None:
        given = true_labels.read_true_labels(evaluation.true_labels)
        values |= true_labels.true_label_metrics(
            predictions, given, label_map["class_num"], evaluation.bootstrap_resamples
        )
    return values, metrics.per_class_table(predictions, label_map)


def compare_models(predictions: pd.DataFrame, evaluation: EvaluationParameters) -> dict[str, Any]:
    """Compare the model with `evaluation.compare_with`. If there is no comparison, `rival` is None in the result."""
    from resnet50_pipeline.pipelines.evaluation.models import compare_with_rival

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
    """Return a staged folder with the figures and their data, which the catalog moves to its final path."""
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
    """Return the report as an HTML page and the model card as Markdown."""
    from resnet50_pipeline.reporting.metrics import require_one_evaluation
    from resnet50_pipeline.reporting.model_card import render_model_card
    from resnet50_pipeline.reporting.provenance import collect_provenance
    from resnet50_pipeline.reporting.report import ReportInputs, render_report

    require_one_evaluation(predictions, metrics, per_class_metrics)
    was_trained_here = evaluation_summary["is_best_checkpoint"]
    inputs = ReportInputs(
        metrics=metrics,
        predictions=predictions,
        per_class=per_class_metrics,
        label_map=label_map,
        evaluation_summary=evaluation_summary,
        comparison=comparison,
        training_summary=training_summary if was_trained_here else None,
        validation_report=validation_report,
        recipe=config_path(training_dir).read_text(encoding="utf-8") if was_trained_here else "",
        dataset_root=evaluation.image_root or dataset_root,
        plots_dir=plots,
        provenance=collect_provenance(Path.cwd()),
        worst_classes=evaluation.worst_classes,
        gallery_images=evaluation.gallery_images,
    )
    return render_report(inputs), render_model_card(inputs)
