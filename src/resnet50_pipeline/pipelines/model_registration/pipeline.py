"""Defines the `model_registration` pipeline, which exports the best checkpoint and registers it as a version."""

from kedro.pipeline import Node, Pipeline

from .nodes import export_inference_model, register_model


def create_pipeline(**_kwargs: object) -> Pipeline:
    """Create the `model_registration` pipeline."""
    return Pipeline(
        [
            Node(
                export_inference_model,
                inputs=[
                    "training_dir",
                    "label_map",
                    "params:model_registration",
                    "params:training",
                    "evaluation_report",  # not read; the stage starts after evaluation
                ],
                outputs="inference_model",
                name="export_inference_model",
            ),
            Node(
                register_model,
                inputs={
                    "inference_model": "inference_model",
                    "metrics": "metrics",
                    "evaluation_summary": "evaluation_summary",
                    "predictions": "predictions",
                    "comparison": "comparison",
                    "evaluation_report": "evaluation_report",
                    "model_card": "model_card",
                    "validation_report": "validation_report",
                    "model_registration": "params:model_registration",
                },
                outputs="registered_model",
                name="register_model",
            ),
        ]
    )
