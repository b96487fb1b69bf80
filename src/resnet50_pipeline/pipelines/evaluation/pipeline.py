"""Defines the `evaluation` pipeline, which creates predictions, metrics, figures, a report and a model card."""

from kedro.pipeline import Node, Pipeline

from .nodes import (
    compare_models,
    compute_metrics,
    compute_slices,
    draw_plots,
    find_label_issues,
    measure_robustness,
    predict_val_list,
    write_evaluation_report,
)


def create_pipeline(**_kwargs: object) -> Pipeline:
    """Create the `evaluation` pipeline."""
    return Pipeline(
        [
            Node(
                predict_val_list,
                inputs={
                    "training_dir": "training_dir",
                    "train_list": "train_list",
                    "val_list": "val_list",
                    "shards": "shards",
                    "manifest_file": "manifest_file",
                    "scan_cache_folder": "scan_cache_folder",
                    "label_map": "label_map",
                    "dataset_root": "dataset_root",
                    "_training_summary": "training_summary",  # not read; evaluation starts after the training stage
                    "dataset": "params:dataset",
                    "training": "params:training",
                    "evaluation": "params:evaluation",
                },
                outputs=["predictions", "evaluation_summary"],
                name="predict_val_list",
            ),
            Node(
                measure_robustness,
                inputs={
                    "training_dir": "training_dir",
                    "val_list": "val_list",
                    "shards": "shards",
                    "label_map": "label_map",
                    "dataset_root": "dataset_root",
                    "predictions": "predictions",
                    "evaluation_summary": "evaluation_summary",
                    "dataset": "params:dataset",
                    "training": "params:training",
                    "evaluation": "params:evaluation",
                },
                outputs="robustness",
                name="measure_robustness",
            ),
            Node(
                compute_metrics,
                inputs=["predictions", "evaluation_summary", "label_map", "params:evaluation"],
                outputs=["metrics", "per_class_metrics"],
                name="compute_metrics",
            ),
            Node(
                find_label_issues,
                inputs={
                    "predictions": "predictions",
                    "evaluation_summary": "evaluation_summary",
                    "label_map": "label_map",
                    "train_list": "train_list",
                    "dataset_root": "dataset_root",
                    "evaluation": "params:evaluation",
                },
                outputs="label_issues",
                name="find_label_issues",
            ),
            Node(
                compute_slices,
                inputs=["predictions", "manifest_file", "dataset_root", "params:evaluation"],
                outputs="slices",
                name="compute_slices",
            ),
            Node(
                compare_models,
                inputs=["predictions", "label_map", "params:evaluation"],
                outputs="comparison",
                name="compare_models",
            ),
            Node(
                draw_plots,
                inputs={
                    "predictions": "predictions",
                    "per_class_metrics": "per_class_metrics",
                    "label_map": "label_map",
                    "training_history": "training_history",
                    "evaluation": "params:evaluation",
                    "evaluation_summary": "evaluation_summary",
                },
                outputs="plots",
                name="draw_plots",
            ),
            Node(
                write_evaluation_report,
                inputs={
                    "metrics": "metrics",
                    "predictions": "predictions",
                    "per_class_metrics": "per_class_metrics",
                    "label_issues": "label_issues",
                    "label_issues_review": "label_issues_review",
                    "slices": "slices",
                    "robustness": "robustness",
                    "label_map": "label_map",
                    "evaluation_summary": "evaluation_summary",
                    "comparison": "comparison",
                    "training_summary": "training_summary",
                    "training_history": "training_history",
                    "validation_report": "validation_report",
                    "training_dir": "training_dir",
                    "dataset_root": "dataset_root",
                    "training": "params:training",
                    "evaluation": "params:evaluation",
                    "parameters": "parameters",
                },
                outputs=["evaluation_report", "model_card"],
                name="write_evaluation_report",
            ),
        ]
    )
