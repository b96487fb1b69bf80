"""Libraries report their progress, and the view decides how and how often to show it."""

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
    format_amount,
    show_activity,
    show_progress,
    showing_in,
)


def shown_with_clock(caplog, monkeypatch, *seconds: float) -> None:
    """Make the clock return these values in seconds, one after another."""
    clock = iter(seconds)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)


def test_byte_amounts_are_shown_as_sizes(caplog, monkeypatch):
    """Amounts in bytes are shown as sizes."""
    # The times at which the view is created, the work starts and is shown, and its first part is done and shown.
    shown_with_clock(caplog, monkeypatch, 0.0, 0.0, 0.0, 10.0, 10.0)
    with showing_in(ProgressLines()), show_progress(138_000_000_000, what="verifying a.tar", unit="bytes") as advance:
        advance(6_000_000_000)
    (record,) = caplog.records
    assert record.getMessage() == "verifying a.tar: 5.59 GiB of 129 GiB, 572 MiB/s, 3:40 left"


def test_progress_line_appears_at_most_every_few_seconds(caplog, monkeypatch):
    """Three steps within ten seconds produce one line with the rate, the remaining time, and the numbers as fields."""
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


def test_node_without_progress_is_named_after_a_minute(caplog, monkeypatch):
    """A node without progress is logged once per minute, but not while others report progress."""
    shown_with_clock(caplog, monkeypatch, 0.0, 59.0, 60.0, 61.0, 120.0)
    lines = ProgressLines()
    stages = [Stage("training", 2, done=2), Stage("model_registration", 2, node="export_inference_model")]
    for _ in range(4):
        lines.log_silent_node(stages)
    assert [record.getMessage() for record in caplog.records] == [
        "export_inference_model has been running for 1:00",
        "export_inference_model has been running for 2:00",
    ]


def test_silence_watch_ends_with_the_run(caplog):
    """The thread that watches for silent nodes runs in the background and ends with the run."""
    caplog.set_level(logging.INFO)
    lines = ProgressLines(seconds_between_lines=0.02)
    lines.open_run([Stage("training", 1, node="train_network", node_started=time.monotonic())], {})
    deadline = time.monotonic() + 10
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.01)
    lines.close_run()
    assert caplog.records[0].getMessage().startswith("train_network ")


def test_view_ends_activities_and_is_restored():
    """Every activity shown in a view ends, even if an exception is raised, and the previous view is restored."""
    before = current_view()

    class Recorder(ProgressLines):
        def __init__(self) -> None:
            super().__init__()
            self.shown: list[str] = []

        def show(self, progress: Progress) -> None:
            self.shown.append(progress.describe())

        def end(self, what: str) -> None:
            self.shown.append(f"end of {what}")

    recorder = Recorder()
    with pytest.raises(KeyError), showing_in(recorder), show_activity("exporting"):
        raise KeyError
    assert recorder.shown == ["exporting: 0", "end of exporting"]
    assert current_view() is before


def test_amounts_have_readable_units():
    """Bytes are shown in a suitable unit; other amounts are shown in the unit of the work, or without one."""
    assert format_amount(64 << 20, "bytes") == "64 MiB"
    assert format_amount(3, "images") == "3 images"
    assert format_amount(3, "") == "3"
