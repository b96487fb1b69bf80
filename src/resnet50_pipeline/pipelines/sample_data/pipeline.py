"""Defines the `sample_data` pipeline, which creates a small dataset in the ImageNet layout."""

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.pipelines.sample_data import nodes


def create_pipeline() -> Pipeline:
    """Create the `sample_data` pipeline."""
    return Pipeline(
        [
            Node(
                nodes.write_sample_dataset,
                inputs=["dataset_folder", "params:sample_data"],
                outputs="dataset_root",
                name="write_sample_dataset",
            ),
        ]
    )
