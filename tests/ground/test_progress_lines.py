"""Progress: libraries tell how far they are, and whoever shows it decides how and how often."""

from __future__ import annotations

import logging
import time

import pytest

from resnet50_pipeline import progress
from resnet50_pipeline.progress import (
    Progress,
    ProgressLines,
    Stage,
    current_view,
    format_count,
    format_duration,
    show_activity,
    show_progress,
    showing_in,
)


def shown_with_clock(caplog, monkeypatch, *seconds: float) -> None:
    """Let the clock say these seconds, one after the other."""
    clock = iter(seconds)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)


def test_bytes_are_counted_as_such(caplog, monkeypatch):
    """The verification of an archive counts megabytes."""
    # The view is made, the work begins and is shown, the first part is done and shown.
    shown_with_clock(caplog, monkeypatch, 0.0, 0.0, 0.0, 10.0, 10.0)
    with showing_in(ProgressLines()), show_progress(138_000_000_000, what="verifying a.tar", unit="bytes") as advance:
        advance(6_000_000_000)
    (record,) = caplog.records
    assert record.getMessage() == "verifying a.tar: 6.0 GB of 138.0 GB, 600.0 MB/s, 3:40 left"


def test_a_line_comes_every_few_seconds_and_no_oftener(caplog, monkeypatch):
    """Of three steps within ten seconds one line is written, with rate, time to go, and the numbers as fields."""
    shown_with_clock(caplog, monkeypatch, 0.0, 0.0, 0.0, 5.0, 5.0, 10.0, 10.0, 12.0, 12.0)
    with showing_in(ProgressLines()), show_progress(1000) as advance:
        for _ in range(3):
            advance(100)
    (record,) = caplog.records
    assert record.getMessage() == "reading images: 200 of 1000 images, 20 images/s, 0:40 left"
    assert record.fields == {
        "activity": "reading images",
        "images": 200,
        "total": 1000,
        "images_per_second": 20.0,
        "eta_seconds": 40.0,
    }


def test_a_node_that_tells_nothing_is_named_after_a_while(caplog, monkeypatch):
    """An export, of which nobody can say how far it is, is named once a minute, and not at all while others tell."""
    shown_with_clock(caplog, monkeypatch, 0.0, 59.0, 60.0, 61.0, 120.0)
    lines = ProgressLines()
    stages = [Stage("training", 2, done=2), Stage("model_registration", 2, node="export_inference_model")]
    for _ in range(4):
        lines.break_silence(stages)
    assert [record.getMessage() for record in caplog.records] == [
        "export_inference_model still runs, for 1:00 now",
        "export_inference_model still runs, for 2:00 now",
    ]


def test_an_open_run_is_watched_until_it_is_closed(caplog):
    """The watch for silence works by itself, and ends with the run."""
    caplog.set_level(logging.INFO)
    lines = ProgressLines(seconds_between_lines=0.02)
    lines.open_run([Stage("training", 1, node="train_network", node_started=time.monotonic())], {})
    deadline = time.monotonic() + 10
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.01)
    lines.close_run()
    assert caplog.records[0].getMessage().startswith("train_network still runs")


def test_what_a_view_is_shown_ends_with_the_work_whatever_ends_it():
    """A view is told of the end, also by an exception, and the view of before is back then."""
    before = current_view()

    class Recorder(ProgressLines):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[str] = []

        def show(self, progress: Progress) -> None:
            self.told.append(progress.describe())

        def end(self, what: str) -> None:
            self.told.append(f"end of {what}")

    recorder = Recorder()
    with pytest.raises(KeyError), showing_in(recorder), show_activity("exporting"):
        raise KeyError
    assert recorder.told == ["exporting: 0", "end of exporting"]
    assert current_view() is before


def test_numbers_are_written_for_people():
    """Durations as clocks, bytes in the units of disks."""
    assert [format_duration(seconds) for seconds in (-1, 6.6, 201, 3723)] == ["0:00", "0:07", "3:21", "1:02:03"]
    assert [format_count(size, "bytes") for size in (0, 999, 1000, 5 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "5000.0 TB",
    ]
    assert format_count(3, "images") == "3 images"
    assert format_count(3, "") == "3"
