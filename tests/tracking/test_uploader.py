"""Curves that grow in MLflow while the ranks still train."""

from __future__ import annotations

import time

import pytest
from test_outbox import loss_steps, wait_until, write_steps

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.tracking.runs import open_run
from resnet50_pipeline.tracking.uploader import uploading_curves


@pytest.fixture
def run(tmp_path):
    """An open run in a new store."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    yield run
    run.end("FINISHED")


def test_points_appear_during_training_and_the_last_at_its_end(run, tmp_path):
    """The thread uploads as events come, and what it has not seen yet follows when the block ends."""
    folder = tmp_path / "training"
    with uploading_curves(run, folder, continues=False, poll_seconds=0.05):
        write_steps(folder, 1, 20)
        wait_until(lambda: loss_steps(run) == list(range(1, 21)))
        write_steps(folder, 21, 40)
    assert loss_steps(run) == list(range(1, 41))


def test_the_last_points_follow_an_error_too(run, tmp_path):
    """A training that fails has its curves up to the failure."""
    folder = tmp_path / "training"
    with (
        pytest.raises(ZeroDivisionError),
        uploading_curves(run, folder, continues=False, poll_seconds=60),
    ):
        write_steps(folder, 1, 5)
        raise ZeroDivisionError
    assert loss_steps(run) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("continues", "steps"), [(True, [1, 2, 3, 4, 5]), (False, [4, 5])])
def test_only_a_training_that_goes_on_shows_what_was_before(run, tmp_path, continues, steps):
    """A resumed training's curves begin with the first step ever, another one's with its own first step."""
    folder = tmp_path / "training"
    write_steps(folder, 1, 3)
    with uploading_curves(run, folder, continues=continues, poll_seconds=60):
        write_steps(folder, 4, 5)
    assert loss_steps(run) == steps


def test_stopping_does_not_wait_for_the_next_look(run, tmp_path):
    """The end of training is not held up by the pause between two looks."""
    before = time.monotonic()
    with uploading_curves(run, tmp_path / "training", continues=False, poll_seconds=60):
        pass
    assert time.monotonic() - before < 5
