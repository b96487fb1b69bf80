"""Defines the `data_validation` pipeline, which creates a manifest, a validation report and Data Docs."""

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.pipelines.data_validation import nodes


def create_pipeline() -> Pipeline:
    """Create the `data_validation` pipeline."""
    return Pipeline(
        [
            Node(
                nodes.scan_dataset,
                inputs=["dataset_root", "params:dataset", "params:data_validation"],
                outputs=["manifest", "list_descriptions"],
                name="scan_dataset",
            ),
            Node(
                nodes.validate_manifest,
                inputs={
                    "dataset_root": "dataset_root",
                    "manifest": "manifest",
                    "manifest_file": "manifest_file",  # the path of the same file
                    "list_descriptions": "list_descriptions",
                    "findings_review": "findings_review",
                    "dataset": "params:dataset",
                    "data_validation": "params:data_validation",
                },
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
