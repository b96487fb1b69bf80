"""What MLflow is told, as data: an operation can be applied at once, or kept on disk until a server is back.

Every one can be applied twice without harm: MLflow stores the same metric value, parameter or tag once, and a second
upload of a file takes the place of the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from pydantic import BaseModel, ConfigDict, Field

from resnet50_pipeline.tracking.curves import MAX_METRICS_PER_BATCH, upload_new_events
from resnet50_pipeline.tracking.process import PROCESS_TAGS

MAX_PARAMS_PER_BATCH = 100
MAX_KEY_LENGTH = 250
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_DIGEST_LENGTH = 36
CHANGED_TAG = "resumed.changed_params"
ERROR_TAG = "error"
# Of each run: its key, by which it is found again where the answer that held MLflow's own id was lost.
SESSION_TAG = "session"


class Operation(BaseModel):
    """Something that MLflow is told about one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Tell MLflow."""
        raise NotImplementedError


class SetTags(Operation):
    """Tags; a value that is too long is cut."""

    kind: Literal["set_tags"] = "set_tags"
    tags: dict[str, str]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set them in one request."""
        client.log_batch(run_id, tags=[RunTag(key, cut(value, MAX_TAG_LENGTH)) for key, value in self.tags.items()])


class LogParams(Operation):
    """Parameters by dotted name; a value that is too long is cut, a character that MLflow refuses becomes `_`."""

    kind: Literal["log_params"] = "log_params"
    params: dict[str, str]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Log them in batches as large as MLflow takes."""
        params = self.as_params()
        for start in range(0, len(params), MAX_PARAMS_PER_BATCH):
            client.log_batch(run_id, params=params[start : start + MAX_PARAMS_PER_BATCH])

    def as_params(self) -> list[Param]:
        """Return them as MLflow takes them."""
        return [
            Param(cut(re.sub(r"[^\w.:/ -]", "_", key), MAX_KEY_LENGTH), cut(value, MAX_PARAM_LENGTH))
            for key, value in self.params.items()
        ]


class ReopenRun(Operation):
    """A run that was stopped goes on: it is RUNNING again, under the process that has it now.

    MLflow keeps the first value of a parameter. What is another one now (as `training.resume`) is told in a tag.
    """

    kind: Literal["reopen_run"] = "reopen_run"
    tags: dict[str, str]
    params: dict[str, str]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set the status, add tags and new parameters, and note those that differ."""
        client.update_run(run_id, status="RUNNING")
        run = client.get_run(run_id)
        known = run.data.params
        if ERROR_TAG in run.data.tags:  # of the end that was none
            client.delete_tag(run_id, ERROR_TAG)
        logged = LogParams(params=self.params).as_params()
        changed = {p.key: [known[p.key], p.value] for p in logged if p.key in known and known[p.key] != p.value}
        SetTags(tags={**self.tags, CHANGED_TAG: json.dumps(changed, sort_keys=True)}).apply(client, run_id)
        LogParams(params={p.key: p.value for p in logged if p.key not in known}).apply(client, run_id)


class MeasuredOn(BaseModel):
    """The data that figures were measured on: name and digest of a `LogDataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str


class LogMetrics(Operation):
    """Single figures of the whole run."""

    kind: Literal["log_metrics"] = "log_metrics"
    metrics: dict[str, float]
    time_ms: int = Field(description="Milliseconds since the Unix epoch.")
    dataset: MeasuredOn | None = None
    step: int = Field(default=0, description="Where figures of one name are drawn over something.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Log them in one request."""
        client.log_batch(run_id, metrics=make_metrics(self.metrics, self.time_ms, self.dataset, step=self.step))


class LogArtifact(Operation):
    """A file, or a folder with all that is in it."""

    kind: Literal["log_artifact"] = "log_artifact"
    path: Path
    folder: str = Field(description="Folder below the run's artifacts.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Upload it; a folder keeps its name."""
        if self.path.is_dir():
            client.log_artifacts(run_id, str(self.path), f"{self.folder}/{self.path.name}")
        else:
            client.log_artifact(run_id, str(self.path), self.folder)


class LogDataset(Operation):
    """A split of the data set, by name and digest; its images stay where they are."""

    kind: Literal["log_dataset"] = "log_dataset"
    name: str
    digest: str = Field(description="`sha256:…` of the whole data set; MLflow shows its first 36 characters.")
    context: Literal["training", "validation"]
    source: str = Field(description="JSON: where the images are.")
    profile: str = Field(description="JSON: how many there are.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Make it an input of the run."""
        dataset = Dataset(
            self.name, shorten_digest(self.digest), source_type="local", source=self.source, profile=self.profile
        )
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", self.context)])])


class UploadCurves(Operation):
    """What is left of the curves of a training run."""

    kind: Literal["upload_curves"] = "upload_curves"
    session: str
    training_dir: Path

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Upload from the cursor on."""
        upload_new_events(client, run_id, self.session, self.training_dir)


class EndRun(Operation):
    """The last one: how the run ended."""

    kind: Literal["end_run"] = "end_run"
    status: Literal["FINISHED", "FAILED", "KILLED"]
    time_ms: int

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set status and end time."""
        client.set_terminated(run_id, self.status, self.time_ms)


class JoinParent(Operation):
    """This run is one of those that a parent gathers; the parent is created by its first child."""

    kind: Literal["join_parent"] = "join_parent"
    session: str
    name: str
    tags: dict[str, str]
    start_time_ms: int
    is_retry: bool = False

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Find or create the parent; it is RUNNING while its children are well, and again when one is retried."""
        parent = find_run(client, _experiment_of(client, run_id), self.session)
        if parent is None:
            tags = self.tags | {SESSION_TAG: self.session}
            parent = client.create_run(_experiment_of(client, run_id), self.start_time_ms, tags, self.name)
        else:
            # FINISHED it is as far as the child before this one knew.
            if parent.info.status in (("FINISHED", "FAILED", "KILLED") if self.is_retry else ("FINISHED",)):
                client.update_run(parent.info.run_id, status="RUNNING")
            if self.is_retry and ERROR_TAG in parent.data.tags:
                client.delete_tag(parent.info.run_id, ERROR_TAG)
            # A scheduler starts each child from a process of its own.
            identity = {name: self.tags[name] for name in PROCESS_TAGS if name in self.tags}
            SetTags(tags=identity).apply(client, parent.info.run_id)
        client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)


class TellRun(Operation):
    """Something that another run shows too: the parent, so that parents can be compared; or a parent's child."""

    # By its first name, which outboxes on the disk have.
    kind: Literal["tell_parent"] = "tell_parent"
    session: str
    operation: Annotated[SetTags | LogMetrics, Field(discriminator="kind")]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Tell MLflow of the other run, where there is one: of the parent, which `JoinParent` has made."""
        other = find_run(client, _experiment_of(client, run_id), self.session)
        if other is not None:
            self.operation.apply(client, other.info.run_id)


class EndParent(Operation):
    """The parent ends with the child that ends now, until the next one begins; once it failed it stays FAILED."""

    kind: Literal["end_parent"] = "end_parent"
    session: str
    status: Literal["FINISHED", "FAILED", "KILLED"]
    time_ms: int

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set status and end time."""
        parent = find_run(client, _experiment_of(client, run_id), self.session)
        if parent is not None:
            failed = parent.info.status in ("FAILED", "KILLED")
            status = parent.info.status if failed else self.status
            client.set_terminated(parent.info.run_id, status, self.time_ms)


class SystemSample(BaseModel):
    """What the machine did at one moment.

    Attributes:
        time_ms: milliseconds since the Unix epoch.
        values: by the names that MLflow's own page knows, as `cpu_utilization_percentage`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_ms: int
    values: dict[str, float]


class LogSystemMetrics(Operation):
    """What the machine did, over seconds since the run began."""

    kind: Literal["log_system_metrics"] = "log_system_metrics"
    samples: list[SystemSample]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Log them in batches as large as MLflow takes."""
        start_ms = client.get_run(run_id).info.start_time
        metrics = [
            Metric(f"system/{name}", value, sample.time_ms, max(0, sample.time_ms - start_ms) // 1000)
            for sample in self.samples
            for name, value in sample.values.items()
        ]
        for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS_PER_BATCH])


AnyOperation = Annotated[
    SetTags
    | LogParams
    | ReopenRun
    | LogMetrics
    | LogArtifact
    | LogDataset
    | UploadCurves
    | EndRun
    | JoinParent
    | TellRun
    | EndParent
    | LogSystemMetrics,
    Field(discriminator="kind"),
]


def find_run(client: MlflowClient, experiment_id: str, session: str) -> Run | None:
    """Return the run with this key, whatever became of the answer to its creation."""
    found = client.search_runs([experiment_id], f"tags.{SESSION_TAG} = '{session}'", max_results=1)
    return found[0] if found else None


def _experiment_of(client: MlflowClient, run_id: str) -> str:
    return str(client.get_run(run_id).info.experiment_id)


def make_metrics(
    metrics: Mapping[str, float],
    time_ms: int,
    dataset: MeasuredOn | None,
    model_id: str | None = None,
    step: int = 0,
) -> list[Metric]:
    """Return single figures as MLflow takes them, linked to the data, and to the logged model that they speak of."""
    name, digest = (None, None) if dataset is None else (dataset.name, shorten_digest(dataset.digest))
    return [
        Metric(key, value, time_ms, step, model_id=model_id, dataset_name=name, dataset_digest=digest)
        for key, value in metrics.items()
    ]


def shorten_digest(digest: str) -> str:
    """Return as much of `sha256:…` as MLflow keeps of a data set's digest."""
    return digest.removeprefix("sha256:")[:MAX_DIGEST_LENGTH]


def cut(text: str, length: int) -> str:
    """Return `text`, or its beginning with an ellipsis, in at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
