"""Tracks each Kedro run as one MLflow run."""

from __future__ import annotations

import contextlib
import json
import logging
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
from resnet50_pipeline.hooks.description import describe_run
from resnet50_pipeline.hooks.index_page import describe_results
from resnet50_pipeline.hooks.logged_datasets import LOGGED_DATASETS
from resnet50_pipeline.hooks.progress import list_outputs
from resnet50_pipeline.logs.set_up import current_log
from resnet50_pipeline.paddleclas.launch.output_dir import should_resume
from resnet50_pipeline.parameters import (
    EvaluationParameters,
    TrackingParameters,
    TrainingParameters,
    read_group,
)
from resnet50_pipeline.processes.interruption import received_interruption
from resnet50_pipeline.training_dir import config_path

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import TrackedRun

logger = logging.getLogger(__name__)

TRAINING_NODE = "train_network"
DATASET_ROOT = "dataset_root"
TRAINING_DIR = "training_dir"
VALIDATION_REPORT = "validation_report"
# Name of a folder in the run's artifacts.
LOG_FOLDER = "logs"
CONFIG_FOLDER = "training"
SPLIT_CONTEXTS: dict[str, Literal["training", "validation"]] = {"train": "training", "val": "validation"}


class TrackingHooks:
    """Opens the MLflow run, logs saved datasets, uploads curves during training, and ends the run."""

    def __init__(self) -> None:
        self._project_path = Path()
        self._catalog: CatalogProtocol[Any, Any] | None = None
        self._run: TrackedRun | None = None
        self._outputs: set[str] = set()
        self._saved: set[str] = set()
        self._curves = contextlib.ExitStack()
        self._system_metrics = contextlib.ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the project folder."""
        self._project_path = context.project_path

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Open the MLflow run. MLflow is imported only here, because the import takes seconds."""
        from resnet50_pipeline.tracking.delivery.curve_cursor import read_session
        from resnet50_pipeline.tracking.runs import open_run

        self._catalog = catalog
        self._outputs, self._saved = list_outputs(run_params, pipeline, catalog), set()
        description = describe_run(run_params, pipeline, catalog, self._project_path)
        if any(node.name == TRAINING_NODE for node in pipeline.nodes):
            training = read_group(catalog.load("parameters"), "training", TrainingParameters)
            training_dir = Path(catalog[TRAINING_DIR].filepath)
            if should_resume(training_dir, training.resume):
                description = replace(description, continues=read_session(training_dir))
        tracking = read_group(catalog.load("parameters"), "tracking", TrackingParameters)
        self._run = open_run(description, tracking, self._project_path)
        if tracking.system_metrics_interval_seconds is not None:
            from resnet50_pipeline.tracking.delivery.system_metrics import recording_system_metrics

            self._system_metrics.enter_context(
                recording_system_metrics(self._run.outbox, tracking.system_metrics_interval_seconds)
            )
        if VALIDATION_REPORT not in pipeline.all_outputs() and catalog.exists(VALIDATION_REPORT):
            self._log_datasets(catalog.load(VALIDATION_REPORT))

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Start uploading curves before the ranks start training."""
        if self._run is not None and self._catalog is not None and node.name == TRAINING_NODE:
            from resnet50_pipeline.tracking.delivery.curve_uploads import uploading_curves

            training_dir = Path(self._catalog[TRAINING_DIR].filepath)
            resumes = should_resume(training_dir, inputs["params:training"].resume)
            self._curves.enter_context(uploading_curves(self._run.outbox, training_dir, resumes=resumes))

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Upload the remaining points of the curves, and the YAML file."""
        if node.name == TRAINING_NODE:
            self._curves.close()
            self._log_training_config()

    @hook_impl
    def on_node_error(self, node: Node) -> None:
        """Upload the curve points recorded before the error, and the YAML file."""
        if node.name == TRAINING_NODE:
            self._curves.close()
            self._log_training_config()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log the dataset as defined in `LOGGED_DATASETS`."""
        self._saved.add(dataset_name)
        logged = LOGGED_DATASETS.get(dataset_name)
        if logged is None or self._run is None or self._catalog is None:
            return
        if tags := logged.tags(data):
            self._run.set_tags(tags)
        if metrics := logged.metrics(data):
            self._run.log_metrics(metrics, on_val=dataset_name == "metrics" and self._evaluates_val_list())
        if logged.folder and logged.has_artifact(data):
            self._run.log_artifact(Path(self._catalog[dataset_name].filepath), logged.folder)
        if dataset_name == VALIDATION_REPORT:
            self._log_datasets(data)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]) -> None:
        """Write the index page, and end the run as FINISHED."""
        if self._run is not None:
            self._system_metrics.close()
            self._log_file()
            self._describe_results(self._run, run_params, self._outputs, catalog)
            self._run.end("FINISHED")
            self._run = None

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """End the run as KILLED after a signal, or as FAILED otherwise. A tag contains the error."""
        if self._run is not None:
            self._system_metrics.close()
            was_killed = received_interruption() is not None or _was_interrupted(error)
            self._run.set_tags({"error": f"{type(error).__name__}: {error}"})
            self._log_file()
            if not was_killed:
                self._describe_results(self._run, run_params, self._saved, catalog, has_failed=True)
            self._run.end("KILLED" if was_killed else "FAILED")
            self._run = None

    def _describe_results(
        self,
        run: TrackedRun,
        run_params: Mapping[str, Any],
        saved: set[str],
        catalog: CatalogProtocol[Any, Any],
        *,
        has_failed: bool = False,
    ) -> None:
        """Write the index page. The results are complete without the page, so an error only causes a warning."""
        try:
            describe_results(run, run_params, saved, catalog, current_log().path, has_failed=has_failed)
        except RunInterruptedError:
            raise
        except Exception as error:
            logger.warning("the index page was not written: %s: %s", type(error).__name__, error)

    def _log_training_config(self) -> None:
        """Upload the YAML file that the ranks read."""
        if self._run is not None and self._catalog is not None:
            path = config_path(Path(self._catalog[TRAINING_DIR].filepath))
            if path.is_file():
                self._run.log_artifact(path, CONFIG_FOLDER)

    def _log_file(self) -> None:
        """Upload the log file, without the lines that the command writes after the end of the run."""
        path = current_log().path
        if self._run is not None and path is not None:
            self._run.log_artifact(path, LOG_FOLDER)

    def _log_datasets(self, validation_report: Mapping[str, Any]) -> None:
        """Record both splits as inputs of the run. No images are uploaded."""
        from resnet50_pipeline.tracking.delivery.operations import LogDataset

        if self._run is None or self._catalog is None:
            return
        root = Path(self._catalog[DATASET_ROOT].filepath).resolve()
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
        self._run.log_datasets(train, val)

    def _evaluates_val_list(self) -> bool:
        if self._catalog is None:
            return False
        evaluation = read_group(self._catalog.load("parameters"), "evaluation", EvaluationParameters)
        return evaluation.image_list is None and evaluation.split == "val"


def _was_interrupted(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RunInterruptedError | KeyboardInterrupt):
            return True
        cause = cause.__cause__
    return False
