"""`training`: lists and recipe in, checkpoint sets and history out."""

from kedro.pipeline import Node, Pipeline

from .nodes import render_training_config, summarize_training, train_network


def create_pipeline(**_kwargs: object) -> Pipeline:
    """Return the pipeline."""
    return Pipeline(
        [
            Node(
                render_training_config,
                inputs=["train_list", "val_list", "shards", "params:dataset", "params:training"],
                outputs="training_config",
                name="render_training_config",
            ),
            Node(
                train_network,
                inputs=["training_config", "params:training"],
                outputs="training_dir",
                name="train_network",
            ),
            Node(
                summarize_training,
                inputs=["training_dir", "params:training"],
                outputs=["training_history", "training_summary"],
                name="summarize_training",
            ),
        ]
    )
