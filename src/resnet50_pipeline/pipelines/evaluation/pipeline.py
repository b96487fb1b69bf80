"""`evaluation`: best checkpoint and val list in, predictions, metrics, pictures and report out."""

from kedro.pipeline import Node, Pipeline

from .nodes import compute_metrics, draw_plots, predict_val_list, write_evaluation_report


def create_pipeline(**_kwargs: object) -> Pipeline:
    """Return the pipeline."""
    return Pipeline(
        [
            Node(
                predict_val_list,
                inputs=["training_dir", "val_list", "params:training", "params:evaluation"],
                outputs=["predictions", "evaluation_summary"],
                name="predict_val_list",
            ),
            Node(
                compute_metrics,
                inputs=["predictions", "evaluation_summary", "label_map"],
                outputs=["metrics", "per_class_metrics"],
                name="compute_metrics",
            ),
            Node(
                draw_plots,
                inputs=["predictions", "per_class_metrics", "label_map", "training_history", "params:evaluation"],
                outputs="plots",
                name="draw_plots",
            ),
            Node(
                write_evaluation_report,
                inputs={
                    "metrics": "metrics",
                    "predictions": "predictions",
                    "per_class_metrics": "per_class_metrics",
                    "label_map": "label_map",
                    "evaluation_summary": "evaluation_summary",
                    "training_summary": "training_summary",
                    "validation_report": "validation_report",
                    "training_dir": "training_dir",
                    "dataset_root": "dataset_root",
                    "plots": "plots",
                    "evaluation": "params:evaluation",
                },
                outputs="evaluation_report",
                name="write_evaluation_report",
            ),
        ]
    )
