"""`data_validation`: dataset folder → manifest, validation report, Data Docs; stops the run at bad data."""

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.pipelines.data_validation import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline `data_validation`."""
    return Pipeline(
        [
            Node(
                nodes.scan_dataset,
                inputs=["dataset_root", "params:dataset", "params:data_validation"],
                outputs=["manifest", "list_notices"],
                name="scan_dataset",
            ),
            Node(
                nodes.validate_manifest,
                inputs=["manifest", "list_notices", "params:dataset", "params:data_validation"],
                outputs=["validation_report", "data_docs"],
                name="validate_manifest",
            ),
            Node(
                nodes.stop_on_blocking_findings,
                inputs=["validation_report", "data_docs"],
                outputs=None,
                name="stop_on_blocking_findings",
            ),
        ]
    )
