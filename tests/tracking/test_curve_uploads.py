"""Curves grow in MLflow while the ranks train."""

from __future__ import annotations

import threading

import pytest
from test_outbox import loss_steps, wait_until, write_steps

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.tracking.delivery.curve_uploads import uploading_curves
from resnet50_pipeline.tracking.runs import open_run


@pytest.fixture
def run(tmp_path):
    """An open run in a new store."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    yield run
    run.end("FINISHED")


def test_points_appear_during_training(run, tmp_path):
    """The thread uploads events while they are being written, and uploads the rest at the end of the block."""
    folder = tmp_path / "training"
    with uploading_curves(run.outbox, folder, resumes=False, poll_seconds=0.05):
        write_steps(folder, 1, 20)
        wait_until(lambda: loss_steps(run) == list(range(1, 21)))
        write_steps(folder, 21, 40)
    assert loss_steps(run) == list(range(1, 41))


def test_points_are_uploaded_after_an_error(run, tmp_path):
    """The curves of a failed training run extend up to the error."""
    folder = tmp_path / "training"
    with (
        pytest.raises(ZeroDivisionError),
        uploading_curves(run.outbox, folder, resumes=False, poll_seconds=60),
    ):
        write_steps(folder, 1, 5)
        raise ZeroDivisionError
    assert loss_steps(run) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("resumes", "steps"), [(True, [1, 2, 3, 4, 5]), (False, [4, 5])])
def test_only_a_resumed_run_includes_existing_events(run, tmp_path, resumes, steps):
    """The curves of a resumed run start at the very first step, and those of a new run at its own first step."""
    folder = tmp_path / "training"
    write_steps(folder, 1, 3)
    with uploading_curves(run.outbox, folder, resumes=resumes, poll_seconds=60):
        write_steps(folder, 4, 5)
    assert loss_steps(run) == steps


def test_the_end_does_not_wait_for_the_next_poll(run, tmp_path):
    """The end of the block interrupts the pause between two polls."""
    before = set(threading.enumerate())
    with uploading_curves(run.outbox, tmp_path / "training", resumes=False, poll_seconds=3600):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before  # a thread still waiting for its next poll would be alive
