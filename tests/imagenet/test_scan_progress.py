"""Progress: a bar on a terminal, lines elsewhere."""

import io
import logging
import re
import time

from rich.console import Console

from resnet50_pipeline.imagenet import scan_progress
from resnet50_pipeline.imagenet.scan_progress import show_progress


def test_a_terminal_shows_a_bar_with_counts() -> None:
    """On a terminal the number of images that were read, their rate and the time to go stand beside the bar."""
    screen = io.StringIO()
    with show_progress(200, Console(file=screen, force_terminal=True, width=100)) as advance:
        advance(100)
        time.sleep(0.3)
        advance(50)
        time.sleep(0.3)
        advance(50)
    assert "reading images" in screen.getvalue()
    assert "200/200" in screen.getvalue()
    assert re.search(r"[0-9]+ images/s", screen.getvalue())
    assert "0:00:00" in screen.getvalue()


def test_bytes_are_counted_as_such(caplog, monkeypatch) -> None:
    """The verification of an archive counts megabytes."""
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(scan_progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)
    console = Console(file=io.StringIO(), force_terminal=False)
    with show_progress(138_000_000_000, console, what="verifying a.tar", unit="bytes") as advance:
        advance(6_000_000_000)
    (record,) = caplog.records
    assert record.getMessage() == "verifying a.tar: 6.0 GB of 138.0 GB, 600.0 MB/s, 220 s to go"


def test_elsewhere_a_line_comes_every_few_seconds(caplog, monkeypatch) -> None:
    """Without a terminal there is one line in ten seconds, with rate and time to go."""
    clock = iter([0.0, 5.0, 10.0, 12.0])
    monkeypatch.setattr(scan_progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)
    with show_progress(1000, Console(file=io.StringIO(), force_terminal=False)) as advance:
        for _ in range(3):
            advance(100)
    assert [record.getMessage() for record in caplog.records] == [
        "reading images: 200 of 1000 images, 20 images/s, 40 s to go"
    ]
