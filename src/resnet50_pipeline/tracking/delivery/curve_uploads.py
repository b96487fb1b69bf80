"""Uploads curves from a background thread while the training run writes its events."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.processes.background import running_in_background
from resnet50_pipeline.tracking.delivery.curve_cursor import claim_new_events, skip_existing_events
from resnet50_pipeline.tracking.delivery.curve_writer import upload_new_events
from resnet50_pipeline.tracking.delivery.operations import UploadCurves
from resnet50_pipeline.tracking.delivery.outbox import Outbox

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# How long to wait at the end of training for a request in flight before sending its points again. MLflow drops
# duplicate points.
_LAST_REQUEST_SECONDS = 10.0


@contextlib.contextmanager
def uploading_curves(
    outbox: Outbox, folder: Path, *, resumes: bool, poll_seconds: float = POLL_SECONDS
) -> Iterator[None]:
    """Upload the events in `folder` while the block runs, and upload the remaining events when the block ends.

    Args:
        outbox: outbox of the run that receives the curves.
        folder: folder of `events.jsonl`, which may not exist yet.
        resumes: whether the existing events belong to this training run. If not, the existing events are not uploaded.
        poll_seconds: time between two reads of the file.
    """
    if not resumes:
        skip_existing_events(outbox.session, folder)

    def upload(is_over: threading.Event) -> None:
        _upload_until(is_over, outbox, folder, poll_seconds)

    try:
        with running_in_background(upload, "mlflow-curves", join_seconds=_LAST_REQUEST_SECONDS):
            yield
    finally:
        try:
            claim_new_events(outbox.session, folder)
        except OSError as error:  # such as a full disk, which must not fail the training run
            logger.warning("%s: a resumed training run will not find its MLflow run (%s)", folder, error)
        outbox.deliver(UploadCurves(session=outbox.session, training_dir=folder))


def _upload_until(is_over: threading.Event, outbox: Outbox, folder: Path, poll_seconds: float) -> None:
    is_failing = False
    while not is_over.wait(poll_seconds):
        try:
            claim_new_events(outbox.session, folder)
            outbox.flush()
            if outbox.answers:
                client, run_id = outbox.connect()
                upload_new_events(client, run_id, outbox.session, folder)
                is_failing = False
        except Exception as error:  # MLflow errors must not stop training; the next poll retries
            if not is_failing:
                logger.warning("the curves of %s are waiting for MLflow (%s: %s)", folder, type(error).__name__, error)
            is_failing = True
