"""What MLflow is told of a Kedro run: one MLflow run, from the first node to the last."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from resnet50_pipeline.exceptions import RunInterruptedError
from resnet50_pipeline.hooks.description import describe_run, read_group
from resnet50_pipeline.hooks.logged_datasets import LOGGED_DATASETS
from resnet50_pipeline.interruption import received_interruption
from resnet50_pipeline.logs.set_up import current_log
from resnet50_pipeline.paddleclas.output_dir import goes_on
from resnet50_pipeline.parameters import DatasetParameters, EvaluationParameters, TrackingParameters, TrainingParameters

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import TrackedRun

TRAINING_NODE = "train_network"
VALIDATION_REPORT = "validation_report"
# Of the run's artifacts.
LOG_FOLDER = "logs"
SPLIT_CONTEXTS: dict[str, Literal["training", "validation"]] = {"train": "training", "val": "validation"}


class TrackingHooks:
    """Opens the run, logs what is saved, draws the curves while the ranks train, and ends the run as what it was."""

    def __init__(self) -> None:
        self._project_path = Path()
        self._catalog: CatalogProtocol[Any, Any] | None = None
        self._run: TrackedRun | None = None
        self._uploading = contextlib.ExitStack()
        self._sampling = contextlib.ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the project's folder."""
        self._project_path = context.project_path

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Open the MLflow run; MLflow is imported here and not before."""
        from resnet50_pipeline.tracking.curves import session_of
        from resnet50_pipeline.tracking.runs import open_run

        self._catalog = catalog
        description = describe_run(run_params, pipeline, catalog, self._project_path)
        if any(node.name == TRAINING_NODE for node in pipeline.nodes):
            training = read_group(catalog, "training", TrainingParameters)
            if goes_on(training):
                description = replace(description, continues=session_of(training.output_dir))
        tracking = read_group(catalog, "tracking", TrackingParameters)
        self._run = open_run(description, tracking, self._project_path)
        if tracking.system_metrics_interval_seconds is not None:
            from resnet50_pipeline.tracking.system_metrics import sampling_system_metrics

            self._sampling.enter_context(sampling_system_metrics(self._run, tracking.system_metrics_interval_seconds))
        if VALIDATION_REPORT not in pipeline.all_outputs() and catalog.exists(VALIDATION_REPORT):
            self._name_data(catalog.load(VALIDATION_REPORT))

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Start to upload the curves when the ranks are about to train."""
        if self._run is not None and node.name == TRAINING_NODE:
            from resnet50_pipeline.tracking.uploader import uploading_curves

            training = inputs["params:training"]
            continues = goes_on(training)
            self._uploading.enter_context(uploading_curves(self._run, training.output_dir, continues=continues))

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Upload the last of the curves."""
        if node.name == TRAINING_NODE:
            self._uploading.close()

    @hook_impl
    def on_node_error(self, node: Node) -> None:
        """Upload the curves as far as they came."""
        if node.name == TRAINING_NODE:
            self._uploading.close()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what `LOGGED_DATASETS` says of the dataset."""
        logged = LOGGED_DATASETS.get(dataset_name)
        if logged is None or self._run is None or self._catalog is None:
            return
        if tags := logged.tags(data):
            self._run.set_tags(tags)
        if metrics := logged.metrics(data):
            self._run.log_metrics(metrics, on_val=dataset_name == "metrics" and self._evaluates_val_list())
        if logged.folder:
            self._run.log_artifact(Path(self._catalog[dataset_name].filepath), logged.folder)
        if dataset_name == VALIDATION_REPORT:
            self._name_data(data)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the run: FINISHED."""
        if self._run is not None:
            self._sampling.close()
            self._log_file()
            self._run.end("FINISHED")
            self._run = None

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the run: KILLED where a signal ended it, FAILED otherwise, with the error in a tag."""
        if self._run is not None:
            self._sampling.close()
            was_killed = received_interruption() is not None or _was_interrupted(error)
            self._run.set_tags({"error": f"{type(error).__name__}: {error}"})
            self._log_file()
            self._run.end("KILLED" if was_killed else "FAILED")
            self._run = None

    def _log_file(self) -> None:
        """Give the run its log as far as it is: all but the summary, or the message that ends the command."""
        path = current_log().path
        if self._run is not None and path is not None:
            self._run.log_artifact(path, LOG_FOLDER)

    def _name_data(self, validation_report: Mapping[str, Any]) -> None:
        """Make both splits inputs of the run; the images stay where they are."""
        from resnet50_pipeline.tracking.operations import LogDataset

        if self._run is None or self._catalog is None:
            return
        root = read_group(self._catalog, "dataset", DatasetParameters).root.resolve()
        digest = validation_report["data_digest"]
        self._run.set_tags({"data_digest": digest})
        train, val = (
            LogDataset(
                name=f"{root.name}/{split}",
                digest=digest,
                context=context,
                source=json.dumps({"uri": str(root / split)}),
                profile=json.dumps(validation_report["statistics"][split]),
            )
            for split, context in SPLIT_CONTEXTS.items()
        )
        self._run.name_data(train, val)

    def _evaluates_val_list(self) -> bool:
        return self._catalog is not None and (
            read_group(self._catalog, "evaluation", EvaluationParameters).image_list is None
        )


def _was_interrupted(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RunInterruptedError | KeyboardInterrupt):
            return True
        cause = cause.__cause__
    return False
