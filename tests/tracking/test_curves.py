"""Every event reaches MLflow's curves once, even after interruptions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from mlflow.entities import Metric

from example_events import started, train_step
from mlflow_stores import client_of, points, sqlite_store
from resnet50_pipeline.events import (
    AnyEvent,
    EpochEnd,
    EvalEnd,
    EventWriter,
    Finished,
    TrainStep,
    WarningRaised,
)
from resnet50_pipeline.tracking.delivery.curve_cursor import skip_existing_events
from resnet50_pipeline.tracking.delivery.curve_points import make_points
from resnet50_pipeline.tracking.delivery.curve_writer import upload_new_events
from resnet50_pipeline.training_dir import CURSOR, events_path


def step(number: int, loss: float = 1.0) -> TrainStep:
    return train_step(time=1_764_000_000 + number, step=number, loss=loss)


def points_of(event: AnyEvent) -> list[Metric]:
    return make_points(event, get_start_ms=lambda: 0)


def write(folder: Path, *events: AnyEvent) -> None:
    writer = EventWriter(events_path(folder))
    for event in events:
        writer.write(event)
    writer.close()


@pytest.fixture
def run(tmp_path):
    """A client, the ID of a new run, and a folder for its events."""
    sqlite_store(tmp_path)
    client = client_of(tmp_path)
    folder = tmp_path / "training"
    folder.mkdir()
    return client, client.create_run("0").info.run_id, folder


@pytest.mark.parametrize(("ranks", "steps"), [(2, [1, 2, 3, 4]), (1, [1, 2, 3, 3, 4])])
def test_repeated_steps_are_on_the_curve_once(run, ranks, steps):
    """After resuming at step 2, step 3 is skipped unless the number of ranks, and with it the step, has changed."""
    client, run_id, folder = run
    write(folder, started(), step(1), step(2), step(3))
    upload_new_events(client, run_id, "a", folder)
    write(folder, started(ranks=ranks, first_step=2), step(3, loss=0.5), step(4))
    upload_new_events(client, run_id, "a", folder)
    assert [number for number, _ in points(client, run_id, "train/loss")] == steps


def test_train_steps_become_points_over_optimizer_steps():
    """A train_step event adds a point to each step curve, with the event's step and time."""
    metrics = points_of(step(7, loss=0.25))
    assert {metric.key for metric in metrics} == {
        "train/loss",
        "train/top1",
        "train/learning_rate",
        "speed/images_per_second",
        "speed/reader_seconds",
    }
    assert {(metric.step, metric.timestamp) for metric in metrics} == {(7, 1_764_000_007_000)}
    assert next(metric.value for metric in metrics if metric.key == "train/loss") == 0.25


def test_monitored_values_become_curves():
    """Each value of a step becomes a point, in GiB or seconds, except the loading time, which already has a curve."""
    event = step(7).model_copy(
        update={
            "gradient_norm": 1.5,
            "update_ratios": {"stem": 0.002, "head": 0.001},
            "phase_seconds": {"load": 0.1, "forward": 0.25},
            "loss_scale": 64.0,
            "skipped_steps": 2,
            "memory_bytes": 3 << 30,
            "peak_memory_bytes": 5 << 30,
        }
    )
    added = {metric.key: metric.value for metric in points_of(event)}
    for metric in points_of(step(7)):
        del added[metric.key]
    assert added == {
        "train/gradient_norm": 1.5,
        "train/loss_scale": 64.0,
        "train/skipped_steps": 2.0,
        "memory/gib": 3.0,
        "memory/peak_gib": 5.0,
        "update_ratio/stem": 0.002,
        "update_ratio/head": 0.001,
        "seconds/forward": 0.25,
    }


@pytest.mark.parametrize(
    ("field", "value", "curve"),
    [("skipped_steps", 0, "train/skipped_steps"), ("gradient_norm", math.inf, "train/gradient_norm")],
)
def test_zeros_and_infinities_are_not_curves(field, value, curve):
    """Skipped steps have no curve before the first one. MLflow would draw an infinite norm as a huge number."""
    assert curve not in {metric.key for metric in points_of(step(7).model_copy(update={field: value}))}


def test_epochs_and_evaluations_become_points_over_epochs():
    """An epoch's training means and its evaluation share an x-axis, so their curves can be compared."""
    epoch = points_of(EpochEnd(epoch=3, step=90, loss=1.0, top1=0.5, images_per_second=30, seconds=10))
    evaluation = points_of(
        EvalEnd(epoch=3, step=90, images=30, loss=1.0, top1=0.4, top5=0.9, images_per_second=60, is_best=True)
    )
    assert {metric.key for metric in epoch} == {"epoch/loss", "epoch/top1"}
    assert {metric.key for metric in evaluation} == {"val/loss", "val/top1", "val/top5", "speed/val_images_per_second"}
    assert {metric.step for metric in [*epoch, *evaluation]} == {3}


def test_skipped_images_become_a_curve_only_if_there_are_any():
    """A constant curve of zeros is not uploaded."""
    epoch = EpochEnd(epoch=3, step=90, loss=1.0, top1=0.5, images_per_second=30, seconds=10, skipped_images=2)
    assert {metric.key: metric.value for metric in points_of(epoch)}["epoch/skipped_images"] == 2


def test_other_events_add_no_points():
    """A warning does not add a point."""
    assert points_of(WarningRaised(message="hot")) == []


def test_only_new_events_are_uploaded(run):
    """The second upload sends only the events appended since the first."""
    client, run_id, folder = run
    write(folder, step(1), step(2))
    assert upload_new_events(client, run_id, "s", folder) == 10
    write(folder, step(3))
    assert upload_new_events(client, run_id, "s", folder) == 5
    assert upload_new_events(client, run_id, "s", folder) == 0
    assert points(client, run_id, "train/loss") == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_a_missing_event_file_has_no_points(run):
    """An upload before the first event sends nothing and does not write a cursor."""
    client, run_id, folder = run
    assert upload_new_events(client, run_id, "s", folder) == 0
    assert not (folder / CURSOR).exists()


def test_an_incomplete_line_is_uploaded_later(run):
    """A last line without a newline is uploaded once it is complete."""
    client, run_id, folder = run
    write(folder, step(1))
    line = step(2).model_dump_json().encode()
    with events_path(folder).open("ab") as file:
        file.write(line[:40])
    assert upload_new_events(client, run_id, "s", folder) == 5
    with events_path(folder).open("ab") as file:
        file.write(line[40:] + b"\n")
    assert upload_new_events(client, run_id, "s", folder) == 5
    assert [at for at, _ in points(client, run_id, "train/loss")] == [1, 2]


def test_a_batch_sent_twice_is_stored_once(run):
    """If the process dies before the cursor moves, the second upload adds no duplicates."""
    client, run_id, folder = run
    write(folder, *(step(number) for number in range(1, 301)))
    upload_new_events(client, run_id, "s", folder)
    cursor = json.loads((folder / CURSOR).read_text())
    (folder / CURSOR).write_text(json.dumps(cursor | {"byte": 0, "last_step": {}}))
    assert upload_new_events(client, run_id, "s", folder) == 1500
    assert points(client, run_id, "train/loss") == [(number, 1.0) for number in range(1, 301)]


def test_another_run_receives_the_whole_curve(run):
    """If training is resumed in another run, that run has the curves from the first step."""
    client, run_id, folder = run
    write(folder, step(1))
    upload_new_events(client, run_id, "s", folder)
    write(folder, step(2))
    later = client.create_run("0").info.run_id
    upload_new_events(client, later, "later", folder)
    assert [at for at, _ in points(client, later, "train/loss")] == [1, 2]


def test_events_of_an_earlier_training_run_are_skipped(run):
    """A new training run in an old folder has all of its points and none of the old ones."""
    client, run_id, folder = run
    write(folder, step(1, loss=9.0), step(2, loss=9.0))
    skip_existing_events("s", folder)
    assert upload_new_events(client, run_id, "s", folder) == 0
    events_path(folder).unlink()
    write(folder, WarningRaised(message="new"), *(step(number, loss=2.0) for number in range(1, 9)))
    upload_new_events(client, run_id, "s", folder)
    assert points(client, run_id, "train/loss") == [(number, 2.0) for number in range(1, 9)]


def test_diverged_losses_are_points(run):
    """MLflow receives NaN and infinity, as well as the points after them."""
    client, run_id, folder = run
    write(folder, step(1, loss=math.nan), step(2, loss=math.inf), step(3, loss=0.5))
    upload_new_events(client, run_id, "s", folder)
    values = [value for _, value in points(client, run_id, "train/loss")]
    assert math.isnan(values[0])
    assert values[1] > 1e300
    assert values[2] == 0.5


def test_a_damaged_line_is_skipped_with_a_warning(run, caplog):
    """The warning quotes the line, and the events after it are uploaded."""
    client, run_id, folder = run
    write(folder, step(1))
    with events_path(folder).open("ab") as file:
        file.write(b'{"event": "train_st\n')
    write(folder, step(2))
    upload_new_events(client, run_id, "s", folder)
    assert [at for at, _ in points(client, run_id, "train/loss")] == [1, 2]
    assert "train_st" in caplog.text


def test_every_point_of_a_long_run_is_uploaded(run):
    """All points from thousands of steps are uploaded."""
    client, run_id, folder = run
    finished = Finished(epochs=1, step=1, best_epoch=1, best_top1=1, seconds=1, images_per_second=1)
    write(folder, started(ranks=1), *(step(number) for number in range(1, 3001)), finished)
    assert upload_new_events(client, run_id, "s", folder) == 15_000
    assert len(points(client, run_id, "train/top1")) == 3000


@pytest.mark.parametrize("earlier", [0, 2])
def test_a_run_in_another_store_receives_all_events_of_the_session(run, earlier):
    """If the session's run was deleted or is in another store, the new run also gets the earlier points."""
    client, run_id, folder = run
    if earlier:
        write(folder, *(step(number, loss=9.0) for number in range(1, 1 + earlier)))
        skip_existing_events("s", folder)
    write(folder, step(3), step(4))
    upload_new_events(client, run_id, "s", folder)
    write(folder, step(5))
    later = client.create_run("0").info.run_id
    upload_new_events(client, later, "s", folder)
    assert points(client, later, "train/loss") == [(3, 1.0), (4, 1.0), (5, 1.0)]
    assert [at for at, _ in points(client, run_id, "train/loss")] == [3, 4]
