"""Progress: a bar on a terminal, lines elsewhere."""

import io
import logging

from rich.console import Console

from resnet50_pipeline.imagenet import scan_progress
from resnet50_pipeline.imagenet.scan_progress import show_progress


def test_a_terminal_shows_a_bar_with_counts() -> None:
    """On a terminal the number of images that were read stands beside the bar."""
    screen = io.StringIO()
    with show_progress(200, Console(file=screen, force_terminal=True, width=100)) as advance:
        advance(150)
        advance(50)
    assert "reading images" in screen.getvalue()
    assert "200/200" in screen.getvalue()


def test_elsewhere_a_line_comes_every_few_seconds(caplog, monkeypatch) -> None:
    """Without a terminal there is one line in ten seconds, with rate and time to go."""
    clock = iter([0.0, 5.0, 10.0, 12.0])
    monkeypatch.setattr(scan_progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)
    with show_progress(1000, Console(file=io.StringIO(), force_terminal=False)) as advance:
        for _ in range(3):
            advance(100)
    assert [record.getMessage() for record in caplog.records] == ["read 200 of 1000 images, 20 images/s, 40 s to go"]
