"""Defines the `data_preparation` pipeline, which creates PaddleClas list files, a label map and shards."""

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.pipelines.data_preparation import nodes

# `listed_images` loads columns of the manifest file, which is written before the validation report.
_INPUTS = ["dataset_root", "listed_images", "validation_report", "params:dataset"]


def create_pipeline() -> Pipeline:
    """Create the `data_preparation` pipeline."""
    # Kedro sorts the nodes that are ready to run by name. When this pipeline runs together with data_validation,
    # `stop_on_blocking_findings` therefore runs before `write_…` and stops the run with the full list of problems.
    return Pipeline(
        [
            Node(
                nodes.write_lists,
                inputs=[*_INPUTS, "params:data_preparation"],
                outputs=["train_list", "val_list"],
                name="write_lists",
            ),
            Node(nodes.write_label_map, inputs=_INPUTS, outputs="label_map", name="write_label_map"),
            Node(
                nodes.pack_shards,
                # Needs no validation report: the lists exist only if the dataset is valid.
                inputs={
                    "dataset_root": "dataset_root",
                    "train_list": "train_list",
                    "val_list": "val_list",
                    "manifest_file": "manifest_file",
                    "shards_folder": "shards_folder",
                    "dataset": "params:dataset",
                    "data_preparation": "params:data_preparation",
                },
                outputs="shards",
                name="pack_shards",
            ),
        ]
    )
