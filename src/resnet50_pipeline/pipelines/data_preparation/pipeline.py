"""`data_preparation`: validated dataset folder → PaddleClas' train and val lists, label map, shards."""

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.pipelines.data_preparation import nodes

# `listed_images` are columns of the manifest's file, which is there before the validation report is.
_INPUTS = ["dataset_root", "listed_images", "validation_report", "params:dataset"]


def create_pipeline() -> Pipeline:
    """Return the pipeline `data_preparation`."""
    # In a run with data_validation, Kedro sorts the nodes that could run next by name: `stop_on_blocking_findings`
    # comes before `write_…`, and stops the run with the whole list of problems.
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
                # The lists, which are written of valid data only.
                inputs={
                    "dataset_root": "dataset_root",
                    "train_list": "train_list",
                    "val_list": "val_list",
                    "manifest_file": "manifest_file",
                    "dataset": "params:dataset",
                    "data_preparation": "params:data_preparation",
                },
                outputs="shards",
                name="pack_shards",
            ),
        ]
    )
