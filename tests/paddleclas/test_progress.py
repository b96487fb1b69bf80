"""Progress is shown live in a terminal and as plain lines elsewhere."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from resnet50_pipeline.events import EvalEnd, EvalProgress, Finished, Started, TrainStep, WarningRaised
from resnet50_pipeline.logs.terminal import TerminalView
from resnet50_pipeline.paddleclas.progress import StepTime, TrainingProgress, showing_evaluation
from resnet50_pipeline.progress import ProgressLines, Stage, showing_in

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


STAGES = [Stage("data_preparation", 3, done=3, seconds=61.2), Stage("training", 2, node="train_network")]


def show_in_terminal(width: int, events=EVENTS) -> str:
    """Return the terminal's content after these events, while the run continues."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=30)
    view = TerminalView(console, ProgressLines())
    with showing_in(view):
        view.open_run(STAGES, {"log": "data/sample/09_logs/a.log"})
        with TrainingProgress() as progress:
            for event in events:
                progress(event)
            paper = Console(file=io.StringIO(), width=width, height=30)
            paper.print(view.render())
            return paper.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_shows_progress_and_last_evaluation(width):
    """The progress figures fit on one line in both narrow and wide terminals."""
    shown = show_in_terminal(width)
    for figure in (
        *("data_preparation", "1:01", "training", "train_network"),
        *("50%", "0:30 left", "epoch 2/3", "loss 1.234", "train top-1 50.0%", "46 images/s"),
        *("last evaluation", "epoch 2: top-1 90.00%, top-5 99.00%, loss 0.500"),
        "data/sample/09_logs/a.log",
    ):
        assert figure in shown
    assert len(shown.splitlines()) == 6


def test_worse_evaluation_is_shown_with_best():
    """The last evaluation is shown together with the best one."""
    worse = EVENTS[2].model_copy(update={"epoch": 3, "top1": 0.8, "is_best": False})
    assert "epoch 3: top-1 80.00% (best 90.00%)" in show_in_terminal(80, [*EVENTS[:3], worse])


def test_lines_without_terminal_contain_progress_and_fields(caplog: pytest.LogCaptureFixture):
    """Lines contain the progress and the remaining time, and include the numbers as JSON fields."""
    with (
        caplog.at_level(logging.INFO),
        showing_in(ProgressLines(seconds_between_lines=0)),
        TrainingProgress() as progress,
    ):
        for event in EVENTS:
            progress(event)
    text = caplog.text
    line = "training: 15 of 30 steps, epoch 2/3, loss 1.234, train top-1 50.0%, lr 0.02, 46 images/s, 0:30 left"
    assert line in text
    assert "2 ranks on cpu" in text
    assert "val loss 0.5000, top-1 90.00%, top-5 99.00% on 60 images, the best so far" in text
    assert "an image was skipped" in text
    assert "best top-1 90.00% after epoch 2" in text
    (fields,) = [record.fields for record in caplog.records if record.getMessage() == line]
    assert fields == {
        "activity": "training",
        "steps": 15,
        "total": 30,
        "images_per_second": 46.0,
        "eta_seconds": 30.0,
        "step": 15,
        "epoch": 2,
        "loss": 1.2345,
        "top1": 0.5,
        "learning_rate": 0.02,
        "images": 480,
        "total_images": 960,
    }


def test_the_remaining_time_has_no_jumps() -> None:
    """On a steady machine whose intervals vary by 40%, two estimates differ by less than 20%."""
    random = np.random.default_rng(1)
    intervals = [3.0, *random.uniform(0.6, 1.4, 200)]  # the first interval includes the start of the workers
    step_time = StepTime()
    left = [(1000 - step) * step_time.add(seconds) for step, seconds in enumerate(intervals)]
    assert np.abs(np.diff(left) / left[:-1]).max() < 0.2
    assert step_time.seconds == pytest.approx(1, rel=0.15)


def test_the_remaining_time_follows_a_lasting_change() -> None:
    """If steps start to take twice as long, the estimate follows within 40 intervals."""
    step_time = StepTime()
    for seconds in [1.0] * 20 + [2.0] * 40:
        step_time.add(seconds)
    assert step_time.seconds == pytest.approx(2, rel=0.05)


def test_progress_works_without_start_event():
    """Progress works even if the event that starts the run is missing."""
    assert "epoch 2 · loss 1.234" in show_in_terminal(160, EVENTS[1:])


def test_evaluation_shows_its_progress(caplog: pytest.LogCaptureFixture):
    """An evaluation shows how many images have been processed."""
    with caplog.at_level(logging.INFO), showing_in(ProgressLines(0)), showing_evaluation(50_000) as on_event:
        on_event(EvalProgress(images=20_000, total=50_000, images_per_second=1000.0))
        on_event(WarningRaised(message="of no interest here"))
    assert "evaluating: 20000 of 50000 images, 1000 images/s, 0:30 left" in caplog.text
