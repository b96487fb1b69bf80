"""Progress shows the figures that a person waits for, live in a terminal and as plain lines elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from resnet50_pipeline.events import EvalEnd, Finished, Started, TrainStep, WarningRaised
from resnet50_pipeline.paddleclas.progress import TrainingProgress

EVENTS = [
    Started(
        ranks=2,
        device="cpu",
        epochs=3,
        steps_per_epoch=10,
        train_images=320,
        val_images=60,
        first_step=0,
        paddle_version="3.3.1",
    ),
    TrainStep(
        step=15,
        epoch=2,
        loss=1.2345,
        top1=0.5,
        learning_rate=0.02,
        images_per_second=46.0,
        reader_seconds=0.01,
        batch_seconds=2.0,
    ),
    EvalEnd(epoch=2, step=20, images=60, loss=0.5, top1=0.9, top5=0.99, images_per_second=100.0, is_best=True),
    WarningRaised(message="an image was skipped"),
    Finished(epochs=3, step=30, best_epoch=2, best_top1=0.9, seconds=60.0, images_per_second=46.0),
]


def show(is_terminal: bool, width: int = 160) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=width)
    with TrainingProgress(console) as progress:
        for event in EVENTS:
            progress(event)
    return output.getvalue()


def test_terminal_has_a_bar_with_loss_top1_speed_and_best():
    """The bar ends with the last figures of the events, also in the 80 columns of a small window."""
    shown = show(is_terminal=True, width=80)
    for figure in ("epoch 2/3", "50%", "loss 1.234", "top-1 50.0%", "46 images/s", "val 90.0%"):
        assert figure in shown


def test_without_a_terminal_lines_say_the_same(caplog: pytest.LogCaptureFixture):
    """A log file gets one line a step event with the time left, and no control characters."""
    with caplog.at_level(logging.INFO):
        assert "\x1b" not in show(is_terminal=False)
    text = caplog.text
    assert "step 15/30: loss 1.2345, top-1 50.0 %, lr 0.02000, 46.0 images/s, ETA 0:00:30" in text
    assert "2 ranks on cpu" in text
    assert "val loss 0.5000, top-1 90.00 %, top-5 99.00 % on 60 images, the best so far" in text
    assert "an image was skipped" in text
    assert "best top-1 90.00 % after epoch 2" in text


def test_events_of_a_run_without_its_start_do_not_break_it():
    """A follower that came late shows what it can."""
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with TrainingProgress(console) as progress:
        for event in EVENTS[1:]:
            progress(event)
