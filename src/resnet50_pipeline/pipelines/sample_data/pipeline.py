"""`sample_data`: parameters → an ImageNet folder."""

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.pipelines.sample_data import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline `sample_data`."""
    return Pipeline(
        [
            Node(
                nodes.write_sample_dataset,
                inputs=["params:sample_data", "params:dataset"],
                outputs="dataset_root",
                name="write_sample_dataset",
            ),
        ]
    )
