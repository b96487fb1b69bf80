"""Stores the undelivered operations of a run on disk.

The folder contains copies of the files to upload, because a later run or `make clean` may delete the originals:

    .mlflow_outbox/<session>/
      outbox.json      {"session": "2026-11-24T05.51.29.123Z", "run_id": null, "operations": [{"kind": …}], …}
      files/0/…        the file that an operation uploads
      system/          samples of the machine's resource usage (system_metrics.py)
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from resnet50_pipeline.files import write_text
from resnet50_pipeline.tracking.address import OUTBOX
from resnet50_pipeline.tracking.delivery.operations import (
    EndRun,
    LogArtifact,
    LogDataset,
    LogMetrics,
    LogParams,
    ReopenRun,
    SetTags,
    UploadCurves,
)
from resnet50_pipeline.tracking.delivery.parent_operations import EndParent, JoinParent, UpdateOtherRun
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.training_dir import CURSOR, events_path

STATE = "outbox.json"
PROJECT_TAG = "project.path"
_FILES, _SAMPLES = "files", "system"

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
    | UpdateOtherRun
    | EndParent,
    Field(discriminator="kind"),
]


class OutboxState(BaseModel):
    """A run and its undelivered operations, from which another process can finish the delivery.

    Attributes:
        session: unique key of the run, also stored in its `session` tag.
        process: process that adds operations to this outbox.
        address: `Store.address` of the store that receives the operations.
        name: name of the run in MLflow.
        tags: initial tags of the run.
        start_time_ms: start time of the run in milliseconds since the Unix epoch.
        run_id: MLflow's ID, or None until MLflow has created the run.
        operations: undelivered operations, oldest first.
        has_ended: whether MLflow knows that the run has ended.
    """

    model_config = ConfigDict(extra="forbid")

    session: str
    process: ProcessIdentity
    address: str
    name: str
    tags: dict[str, str]
    start_time_ms: int
    run_id: str | None = None
    operations: list[AnyOperation] = []
    has_ended: bool = False


@dataclass(frozen=True)
class OutboxFolder:
    """The folder of one run inside `.mlflow_outbox`. The folder is deleted when it becomes empty."""

    path: Path

    @classmethod
    def of(cls, project_path: Path, session: str) -> OutboxFolder:
        """Return the outbox folder of the run with this session."""
        return cls(project_path / OUTBOX / session)

    @property
    def samples(self) -> Path:
        """Folder for system samples."""
        return self.path / _SAMPLES

    def read(self) -> OutboxState:
        """Return the stored state. If the project folder has been moved since, adjust the paths in the state.

        Raises:
            FileNotFoundError: if nothing is stored.
            pydantic.ValidationError: if the file is not an outbox of this version.
        """
        text = (self.path / STATE).read_text(encoding="utf-8")
        state = OutboxState.model_validate_json(text)
        old, new = state.tags.get(PROJECT_TAG, ""), str(self.path.parents[1])
        if not old or old == new or Path(old).exists():
            return state
        old_text, new_text = (json.dumps(f"{path}/", ensure_ascii=False)[1:-1] for path in (old, new))
        return OutboxState.model_validate_json(text.replace(old_text, new_text))

    def write(self, state: OutboxState) -> None:
        """Replace the stored state atomically."""
        write_text(self.path / STATE, state.model_dump_json(indent=2) + "\n")

    def copy_files(self, operation: AnyOperation) -> AnyOperation:
        """Copy the files that an operation uploads, and return an operation that uploads the copies instead."""
        if isinstance(operation, UploadCurves) and operation.training_dir != self.samples:
            folder = self._create_files_folder()
            for path in (events_path(operation.training_dir), operation.training_dir / CURSOR):
                if path.exists():
                    shutil.copy2(path, folder)
            return operation.model_copy(update={"training_dir": folder})
        if isinstance(operation, LogArtifact):
            copy = self._create_files_folder() / operation.path.name
            if operation.path.is_dir():
                shutil.copytree(operation.path, copy)
            else:
                shutil.copy2(operation.path, copy)
            return operation.model_copy(update={"path": copy})
        return operation

    def remove_delivered(self) -> None:
        """Remove the stored state and the copied files.

        Keep the samples, because a thread may still be writing samples.
        """
        # Remove the state first: without it, any files left behind by a killed process are harmless.
        if self.path.is_dir():
            (self.path / STATE).unlink(missing_ok=True)
            self._remove_folders(self.path / _FILES)

    def remove_samples(self) -> None:
        """Remove the samples, after MLflow has received all of them."""
        self._remove_folders(self.samples)

    def remove(self) -> None:
        """Remove the folder, after the run has ended and MLflow has received all results."""
        self._remove_folders(self.path)

    def _remove_folders(self, folder: Path) -> None:
        """Remove a folder, and each parent folder that becomes empty."""
        if folder.exists():
            shutil.rmtree(folder)
        for path in (self.path, self.path.parent):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def _create_files_folder(self) -> Path:
        number = len(list((self.path / _FILES).glob("*")))
        folder = self.path / _FILES / str(number)
        folder.mkdir(parents=True)
        return folder
