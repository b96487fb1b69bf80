"""Uploads the curves of a training run while it is under way, from a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.tracking.curves import claim_new_events, skip_existing_events, upload_new_events
from resnet50_pipeline.tracking.runs import TrackedRun

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# How long the end of a training waits for a request that is under way. Should its answer come later still, its points
# are sent again by then, and stored once.
_LAST_REQUEST_SECONDS = 10.0


@contextlib.contextmanager
def uploading_curves(
    run: TrackedRun, training_dir: Path, *, continues: bool, poll_seconds: float = POLL_SECONDS
) -> Iterator[None]:
    """Upload the events of `training_dir` to `run` while the block runs, and the last of them when it ends.

    Args:
        run: gets the curves.
        training_dir: folder of events.jsonl, which may not be there yet.
        continues: the training goes on from a checkpoint: the curves begin with the events that are there.
            Otherwise these are another training's, and are left out.
        poll_seconds: pause between two looks at the file.
    """
    if not continues:
        skip_existing_events(run.session, training_dir)
    is_over = threading.Event()
    thread = threading.Thread(
        target=_upload_until, args=(is_over, run, training_dir, poll_seconds), name="mlflow-curves", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_LAST_REQUEST_SECONDS)
        claim_new_events(run.session, training_dir)
        run.upload_curves(training_dir)


def _upload_until(is_over: threading.Event, run: TrackedRun, training_dir: Path, poll_seconds: float) -> None:
    is_failing = False
    while not is_over.wait(poll_seconds):
        try:
            claim_new_events(run.session, training_dir)
            if run.catch_up():
                client, run_id = run.connect()
                upload_new_events(client, run_id, run.session, training_dir)
                is_failing = False
        except Exception as error:  # whatever it is, training goes on, and the last upload tries again
            if not is_failing:
                logger.warning("the curves wait for MLflow (%s: %s)", type(error).__name__, error)
            is_failing = True
