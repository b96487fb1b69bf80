"""Records which run receives the events in a folder, and how many of the events have been uploaded.

The cursor is a file next to `events.jsonl`:

    .mlflow_cursor.json      {"run": "2026-11-24T05.51.29.123Z", "events": "5e0c…", "byte": 20480, "ranks": 4, …}
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import Field

from resnet50_pipeline.files import write_text
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.tailing import read_complete_lines
from resnet50_pipeline.training_dir import CURSOR, events_path


class Cursor(FrozenModel):
    """A position in an event file.

    Attributes:
        run: session of the run that receives the events. MLflow's run ID may not be known yet.
        events: SHA-256 of the file's first line, to distinguish a file that was replaced from a file that has grown.
        byte: offset of the first byte that has not been uploaded.
        ranks: number of ranks. Step numbers are comparable only between training runs with the same number of ranks.
        last_step: last uploaded step of each curve group (`train`, `epoch`, `val`).
        mlflow_run: MLflow's ID of the run that received the events before `byte`; "" if nothing has been uploaded.
        first_byte: offset of the session's first event. The events before it belong to an earlier training run.
    """

    run: str
    events: str
    byte: int
    ranks: int = 0
    last_step: dict[str, int] = Field(default_factory=dict)
    mlflow_run: str = ""
    first_byte: int = 0


def skip_existing_events(session: str, folder: Path) -> None:
    """Exclude existing events, left by an earlier training run, from this run's curves."""
    if identity := _identify_events(folder):
        size = events_path(folder).stat().st_size
        write_cursor(folder, Cursor(run=session, events=identity, byte=size, first_byte=size))


def claim_new_events(session: str, folder: Path) -> None:
    """Record that the folder's events belong to this session's run, unless another run has already claimed them.

    A resumed training run uses this record to find its MLflow run, even if MLflow was never available.
    """
    if identity := _identify_events(folder):
        cursor = _read_cursor(folder)
        if cursor is None or cursor.events != identity:
            write_cursor(folder, Cursor(run=session, events=identity, byte=0))


def read_session(folder: Path) -> str | None:
    """Return the session of the run that has claimed the folder's events, or None if no run has."""
    cursor = _read_cursor(folder)
    return cursor.run if cursor is not None and cursor.events == _identify_events(folder) else None


def read_run_id(folder: Path) -> str | None:
    """Return MLflow's ID of the run that has the folder's curves, or None if nothing has been uploaded."""
    cursor = _read_cursor(folder)
    return (cursor.mlflow_run or None) if cursor is not None and cursor.events == _identify_events(folder) else None


def find_cursor(session: str, folder: Path, run_id: str) -> Cursor | None:
    """Return the position at which to continue uploading to a run, or None if there are no events.

    If the stored cursor is for a different session or file, the upload starts at the beginning of the file. If the
    session has a different MLflow run, because the old run was deleted or the store is different, all events are
    uploaded again.
    """
    identity = _identify_events(folder)
    if not identity:
        return None
    cursor = _read_cursor(folder)
    if cursor is None or (cursor.run, cursor.events) != (session, identity):
        return Cursor(run=session, events=identity, byte=0, mlflow_run=run_id)
    if cursor.mlflow_run not in ("", run_id):
        first = cursor.first_byte
        return Cursor(run=session, events=identity, byte=first, mlflow_run=run_id, first_byte=first)
    return cursor.model_copy(update={"mlflow_run": run_id})


def write_cursor(folder: Path, cursor: Cursor) -> None:
    """Replace the cursor atomically."""
    write_text(folder / CURSOR, json.dumps(cursor.model_dump()) + "\n")


def _read_cursor(folder: Path) -> Cursor | None:
    try:
        return Cursor.model_validate_json((folder / CURSOR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _identify_events(folder: Path) -> str:
    """Return the digest of the first line, or "" if there is no complete line yet."""
    lines = read_complete_lines(events_path(folder), max_bytes=1)
    return hashlib.sha256(lines[0]).hexdigest() if lines else ""
