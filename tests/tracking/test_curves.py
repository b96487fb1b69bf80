"""From events.jsonl to MLflow's curves: every point once, whatever happens in between."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from mlflow_stores import client_of, points, sqlite_store
from resnet50_pipeline.events import (
    AnyEvent,
    EpochEnd,
    EvalEnd,
    EventWriter,
    Finished,
    Started,
    TrainStep,
    WarningRaised,
)
from resnet50_pipeline.tracking.curves import CURSOR, EVENTS, metrics_of, skip_existing_events, upload_new_events


def step(number: int, loss: float = 1.0) -> TrainStep:
    return TrainStep(
        time=1_764_000_000 + number,
        step=number,
        epoch=1,
        loss=loss,
        top1=0.5,
        learning_rate=0.1,
        images_per_second=30.0,
        reader_seconds=0.0,
        batch_seconds=0.5,
    )


def write(folder: Path, *events: AnyEvent) -> None:
    writer = EventWriter(folder / EVENTS)
    for event in events:
        writer.write(event)
    writer.close()


@pytest.fixture
def run(tmp_path):
    """A client, the id of a new run, and a folder for its events."""
    sqlite_store(tmp_path)
    client = client_of(tmp_path)
    folder = tmp_path / "training"
    folder.mkdir()
    return client, client.create_run("0").info.run_id, folder


def started(ranks: int, first_step: int = 0) -> Started:
    return Started(
        ranks=ranks,
        device="cpu",
        epochs=1,
        steps_per_epoch=9,
        train_images=9,
        val_images=9,
        first_step=first_step,
        paddle_version="3.3.1",
    )


@pytest.mark.parametrize(("ranks", "steps"), [(2, [1, 2, 3, 4]), (1, [1, 2, 3, 3, 4])])
def test_steps_that_are_done_again_are_on_the_curve_once(run, ranks, steps):
    """Killed after step 3 and resumed after step 2: step 3 is there once, unless other ranks count other steps."""
    client, run_id, folder = run
    write(folder, started(2), step(1), step(2), step(3))
    upload_new_events(client, run_id, "a", folder)
    write(folder, started(ranks, 2), step(3, loss=0.5), step(4))
    upload_new_events(client, run_id, "a", folder)
    assert [number for number, _ in points(client, run_id, "train/loss")] == steps


def test_train_steps_lie_over_optimizer_steps_at_their_own_time():
    """A train_step gives points of step curves, with the event's step and time."""
    metrics = metrics_of(step(7, loss=0.25))
    assert {metric.key for metric in metrics} == {
        "train/loss",
        "train/top1",
        "train/learning_rate",
        "train/images_per_second",
        "train/reader_seconds",
    }
    assert {(metric.step, metric.timestamp) for metric in metrics} == {(7, 1_764_000_007_000)}
    assert next(metric.value for metric in metrics if metric.key == "train/loss") == 0.25


def test_epochs_and_evaluations_lie_over_epochs():
    """An epoch's training means and its evaluation share their x-axis, so they can be drawn over each other."""
    epoch = metrics_of(EpochEnd(epoch=3, step=90, loss=1.0, top1=0.5, images_per_second=30, seconds=10))
    evaluation = metrics_of(
        EvalEnd(epoch=3, step=90, images=30, loss=1.0, top1=0.4, top5=0.9, images_per_second=60, is_best=True)
    )
    assert {metric.key for metric in epoch} == {
        f"epoch/{name}" for name in ("loss", "top1", "images_per_second", "seconds", "skipped_images")
    }
    assert {metric.key for metric in evaluation} == {"val/loss", "val/top1", "val/top5", "val/images_per_second"}
    assert {metric.step for metric in [*epoch, *evaluation]} == {3}


def test_other_events_draw_nothing():
    """A warning is no point on a curve."""
    assert metrics_of(WarningRaised(message="hot")) == []


def test_only_what_is_new_is_uploaded(run):
    """The second upload sends what was appended since the first, and the third nothing."""
    client, run_id, folder = run
    write(folder, step(1), step(2))
    assert upload_new_events(client, run_id, "s", folder) == 10
    write(folder, step(3))
    assert upload_new_events(client, run_id, "s", folder) == 5
    assert upload_new_events(client, run_id, "s", folder) == 0
    assert points(client, run_id, "train/loss") == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_a_file_that_is_not_there_yet_has_no_points(run):
    """The ranks need a while to write their first line."""
    client, run_id, folder = run
    assert upload_new_events(client, run_id, "s", folder) == 0
    assert not (folder / CURSOR).exists()


def test_a_line_that_is_being_written_waits(run):
    """A last line without its newline is left for the next time, then uploaded whole."""
    client, run_id, folder = run
    write(folder, step(1))
    line = step(2).model_dump_json().encode()
    with (folder / EVENTS).open("ab") as file:
        file.write(line[:40])
    assert upload_new_events(client, run_id, "s", folder) == 5
    with (folder / EVENTS).open("ab") as file:
        file.write(line[40:] + b"\n")
    assert upload_new_events(client, run_id, "s", folder) == 5
    assert [at for at, _ in points(client, run_id, "train/loss")] == [1, 2]


def test_a_batch_sent_twice_is_stored_once(run):
    """A process that dies between MLflow's answer and the cursor sends the batch again, and no point is doubled."""
    client, run_id, folder = run
    write(folder, *(step(number) for number in range(1, 301)))
    upload_new_events(client, run_id, "s", folder)
    cursor = json.loads((folder / CURSOR).read_text())
    (folder / CURSOR).write_text(json.dumps(cursor | {"byte": 0, "last_step": {}}))
    assert upload_new_events(client, run_id, "s", folder) == 1500
    assert points(client, run_id, "train/loss") == [(number, 1.0) for number in range(1, 301)]


def test_another_run_gets_the_whole_curve(run):
    """A training that was resumed in a later run shows its curves there from the first step on."""
    client, run_id, folder = run
    write(folder, step(1))
    upload_new_events(client, run_id, "s", folder)
    write(folder, step(2))
    later = client.create_run("0").info.run_id
    upload_new_events(client, later, "later", folder)
    assert [at for at, _ in points(client, later, "train/loss")] == [1, 2]


def test_events_of_an_earlier_training_are_left_out(run):
    """A fresh training over an old folder gets neither the old points nor loses its own first ones."""
    client, run_id, folder = run
    write(folder, step(1, loss=9.0), step(2, loss=9.0))
    skip_existing_events("s", folder)
    assert upload_new_events(client, run_id, "s", folder) == 0
    (folder / EVENTS).unlink()
    write(folder, WarningRaised(message="new"), *(step(number, loss=2.0) for number in range(1, 9)))
    upload_new_events(client, run_id, "s", folder)
    assert points(client, run_id, "train/loss") == [(number, 2.0) for number in range(1, 9)]


def test_diverged_losses_are_points_too(run):
    """NaN reaches MLflow as NaN, and the points after it as well."""
    client, run_id, folder = run
    write(folder, step(1, loss=math.nan), step(2, loss=math.inf), step(3, loss=0.5))
    upload_new_events(client, run_id, "s", folder)
    values = [value for _, value in points(client, run_id, "train/loss")]
    assert math.isnan(values[0])
    assert values[1] > 1e300
    assert values[2] == 0.5


def test_a_line_that_is_no_event_is_passed_over_and_said(run, caplog):
    """A damaged line is named in a warning, and does not keep back what follows."""
    client, run_id, folder = run
    write(folder, step(1))
    with (folder / EVENTS).open("ab") as file:
        file.write(b'{"event": "train_st\n')
    write(folder, step(2))
    upload_new_events(client, run_id, "s", folder)
    assert [at for at, _ in points(client, run_id, "train/loss")] == [1, 2]
    assert "train_st" in caplog.text


def test_a_long_training_is_uploaded_in_seconds(run):
    """The points of thousands of steps go in batches, in much less than a millisecond each."""
    client, run_id, folder = run
    finished = Finished(epochs=1, step=1, best_epoch=1, best_top1=1, seconds=1, images_per_second=1)
    write(folder, started(1), *(step(number) for number in range(1, 3001)), finished)
    before = time.process_time()
    assert upload_new_events(client, run_id, "s", folder) == 15_000
    assert (time.process_time() - before) / 15_000 < 0.001
    assert len(points(client, run_id, "train/top1")) == 3000
