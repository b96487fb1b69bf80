"""Changes that a run makes in MLflow, applied immediately or stored until the server is available.

Every operation is idempotent: MLflow deduplicates metric values, parameters and tags, and uploading a file again
    replaces the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from pydantic import Field

from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.tracking.delivery.curve_writer import upload_new_events
from resnet50_pipeline.tracking.limits import (
    MAX_KEY_LENGTH,
    MAX_PARAM_LENGTH,
    MAX_PARAMS_PER_BATCH,
    MAX_TAG_LENGTH,
    shorten,
    shorten_digest,
)

CHANGED_TAG = "resumed.changed_params"
ERROR_TAG = "error"
# Tag with the session. This unique key identifies the run even if the response with MLflow's own ID was lost.
SESSION_TAG = "session"

EndState = Literal["FINISHED", "FAILED", "KILLED"]


class Operation(FrozenModel):
    """A change to an MLflow run."""

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Send the change to MLflow."""
        raise NotImplementedError


class SetTags(Operation):
    """Sets tags. Values that are too long are truncated."""

    kind: Literal["set_tags"] = "set_tags"
    tags: dict[str, str]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set all tags in one request."""
        tags = [RunTag(key, shorten(value, MAX_TAG_LENGTH)) for key, value in self.tags.items()]
        client.log_batch(run_id, tags=tags)


class LogParams(Operation):
    """Logs parameters with dotted names. Long values are truncated, and invalid characters in names become `_`."""

    kind: Literal["log_params"] = "log_params"
    params: dict[str, str]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Log the parameters in batches of the maximum size that MLflow accepts."""
        params = self.as_params()
        for start in range(0, len(params), MAX_PARAMS_PER_BATCH):
            client.log_batch(run_id, params=params[start : start + MAX_PARAMS_PER_BATCH])

    def as_params(self) -> list[Param]:
        """Return the parameters with names and values that MLflow accepts."""
        return [
            Param(shorten(re.sub(r"[^\w.:/ -]", "_", key), MAX_KEY_LENGTH), shorten(value, MAX_PARAM_LENGTH))
            for key, value in self.params.items()
        ]


class ReopenRun(Operation):
    """Sets the status of a stopped run back to RUNNING when a process resumes it.

    Parameters are immutable in MLflow, so values that have changed, such as `training.resume`, are recorded in the
    `resumed.changed_params` tag.
    """

    kind: Literal["reopen_run"] = "reopen_run"
    tags: dict[str, str]
    params: dict[str, str]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set the status, add tags and new parameters, and record changed parameters."""
        client.update_run(run_id, status="RUNNING")
        run = client.get_run(run_id)
        known = run.data.params
        if ERROR_TAG in run.data.tags:  # left by the process that failed; no longer applies
            client.delete_tag(run_id, ERROR_TAG)
        params = LogParams(params=self.params).as_params()
        changed = {p.key: [known[p.key], p.value] for p in params if p.key in known and known[p.key] != p.value}
        SetTags(tags={**self.tags, CHANGED_TAG: json.dumps(changed, sort_keys=True)}).apply(client, run_id)
        LogParams(params={p.key: p.value for p in params if p.key not in known}).apply(client, run_id)


class MeasuredOn(FrozenModel):
    """The dataset that metrics were measured on, identified by the name and digest of a `LogDataset`."""

    name: str
    digest: str


class LogMetrics(Operation):
    """Logs metrics of the entire run, such as the final accuracy."""

    kind: Literal["log_metrics"] = "log_metrics"
    metrics: dict[str, float]
    time_ms: int = Field(description="Milliseconds since the Unix epoch.")
    dataset: MeasuredOn | None = None
    step: int = Field(default=0, description="Position on the x-axis, for values that form a curve.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Log all values in one request."""
        client.log_batch(run_id, metrics=make_metrics(self.metrics, self.time_ms, self.dataset, step=self.step))


class LogArtifact(Operation):
    """Uploads a file, or a folder with its contents."""

    kind: Literal["log_artifact"] = "log_artifact"
    path: Path
    folder: str = Field(description="Folder below the run's artifacts.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Upload the file or folder. A folder keeps its name."""
        if self.path.is_dir():
            client.log_artifacts(run_id, str(self.path), f"{self.folder}/{self.path.name}")
        else:
            client.log_artifact(run_id, str(self.path), self.folder)


class LogDataset(Operation):
    """Records a split of the dataset as an input of the run. Images are not uploaded, only the name and digest."""

    kind: Literal["log_dataset"] = "log_dataset"
    name: str
    digest: str = Field(description="`sha256:…` of the entire dataset. MLflow stores only the first 36 hex digits.")
    context: Literal["training", "validation"]
    source: str = Field(description="JSON with the location of the images.")
    profile: str = Field(description="JSON with the number of images and classes.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Add the split to the run's inputs."""
        dataset = Dataset(
            self.name, shorten_digest(self.digest), source_type="local", source=self.source, profile=self.profile
        )
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", self.context)])])


class UploadCurves(Operation):
    """Uploads the events that are still missing from the run's curves."""

    kind: Literal["upload_curves"] = "upload_curves"
    session: str
    training_dir: Path = Field(
        description="Folder with `events.jsonl`, which contains either training events or system samples."
    )

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Upload the events after the cursor."""
        upload_new_events(client, run_id, self.session, self.training_dir)


class EndRun(Operation):
    """Ends the run. This is always the last operation."""

    kind: Literal["end_run"] = "end_run"
    status: EndState
    time_ms: int = Field(description="Milliseconds since the Unix epoch.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set the status and end time."""
        client.set_terminated(run_id, self.status, self.time_ms)


def find_run(client: MlflowClient, experiment_id: str, session: str) -> Run | None:
    """Return the run with this session, or None if MLflow has not created it."""
    found = client.search_runs([experiment_id], f"tags.{SESSION_TAG} = '{session}'", max_results=1)
    return found[0] if found else None


def make_metrics(
    metrics: Mapping[str, float],
    time_ms: int,
    dataset: MeasuredOn | None,
    model_id: str | None = None,
    step: int = 0,
) -> list[Metric]:
    """Return MLflow metrics that refer to the dataset of the measurement and, if given, to a logged model."""
    name, digest = (None, None) if dataset is None else (dataset.name, shorten_digest(dataset.digest))
    return [
        Metric(key, value, time_ms, step, model_id=model_id, dataset_name=name, dataset_digest=digest)
        for key, value in metrics.items()
    ]
