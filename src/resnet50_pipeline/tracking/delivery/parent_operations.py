"""Operations that a run uses to change its parent run or another run in the same experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from pydantic import Field

from resnet50_pipeline.tracking.delivery.operations import (
    ERROR_TAG,
    SESSION_TAG,
    EndState,
    LogMetrics,
    Operation,
    SetTags,
    find_run,
)
from resnet50_pipeline.tracking.process import PROCESS_TAGS


class JoinParent(Operation):
    """Makes the run a child of a parent run. The first child creates the parent."""

    kind: Literal["join_parent"] = "join_parent"
    session: str
    name: str
    tags: dict[str, str]
    start_time_ms: int
    is_retry: bool = False

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Find or create the parent, and set its status to RUNNING.

        A failed parent keeps its status, unless this run is a retry of the failed child.
        """
        experiment_id = _get_experiment_id(client, run_id)
        parent = find_run(client, experiment_id, self.session)
        if parent is None:
            tags = self.tags | {SESSION_TAG: self.session}
            parent = client.create_run(experiment_id, self.start_time_ms, tags, self.name)
        else:
            # The previous child set the parent to FINISHED, because it could not know whether another would follow.
            if parent.info.status in (("FINISHED", "FAILED", "KILLED") if self.is_retry else ("FINISHED",)):
                client.update_run(parent.info.run_id, status="RUNNING")
            if self.is_retry and ERROR_TAG in parent.data.tags:
                client.delete_tag(parent.info.run_id, ERROR_TAG)
            # A scheduler may start each child from a different process.
            identity = {name: self.tags[name] for name in PROCESS_TAGS if name in self.tags}
            SetTags(tags=identity).apply(client, parent.info.run_id)
        client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)


class UpdateOtherRun(Operation):
    """Applies an operation to another run, for example to send a child's metrics to its parent."""

    # Do not rename: stored outboxes may contain this name.
    kind: Literal["tell_parent"] = "tell_parent"
    session: str
    operation: Annotated[SetTags | LogMetrics, Field(discriminator="kind")]

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Apply the operation to the run with this session. Do nothing if there is no such run."""
        other = _find_sibling(client, run_id, self.session)
        if other is not None:
            self.operation.apply(client, other.info.run_id)


class EndParent(Operation):
    """Ends the parent when a child ends. The next child reopens it. A failed parent keeps its status."""

    kind: Literal["end_parent"] = "end_parent"
    session: str
    status: EndState
    time_ms: int = Field(description="Milliseconds since the Unix epoch.")

    def apply(self, client: MlflowClient, run_id: str) -> None:
        """Set the status and end time."""
        parent = _find_sibling(client, run_id, self.session)
        if parent is not None:
            has_failed = parent.info.status in ("FAILED", "KILLED")
            status = parent.info.status if has_failed else self.status
            client.set_terminated(parent.info.run_id, status, self.time_ms)


def _find_sibling(client: MlflowClient, run_id: str, session: str) -> Run | None:
    return find_run(client, _get_experiment_id(client, run_id), session)


def _get_experiment_id(client: MlflowClient, run_id: str) -> str:
    return str(client.get_run(run_id).info.experiment_id)
