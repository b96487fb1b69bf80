"""Defines the `training` pipeline, which creates checkpoint sets and a training history."""

from kedro.pipeline import Node, Pipeline

from .nodes import summarize_training, train_network


def create_pipeline(**_kwargs: object) -> Pipeline:
    """Create the `training` pipeline."""
    return Pipeline(
        [
            Node(
                train_network,
                inputs={
                    "dataset_folder": "dataset_folder",
                    "train_list": "train_list",
                    "val_list": "val_list",
                    "shards": "shards",
                    "manifest_file": "manifest_file",
                    "scan_cache_folder": "scan_cache_folder",
                    "training_folder": "training_folder",
                    "dataset": "params:dataset",
                    "training": "params:training",
                },
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
