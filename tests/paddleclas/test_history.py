"""The history of a training run contains each step once, even if the run was resumed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pandas as pd

from example_events import started, train_step
from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, EventWriter
from resnet50_pipeline.paddleclas.history import training_history


def ends(step: int, epoch: int, loss: float) -> list[AnyEvent]:
    return [
        EpochEnd(step=step, epoch=epoch, loss=loss, top1=0.5, images_per_second=10.0, seconds=1.0),
        EvalEnd(
            step=step, epoch=epoch, images=30, loss=loss, top1=0.5, top5=0.9, images_per_second=10.0, is_best=False
        ),
    ]


def history_of(folder: Path, *events: AnyEvent) -> pd.DataFrame:
    path = folder / "events.jsonl"
    with contextlib.closing(EventWriter(path)) as writer:
        for event in events:
            writer.write(event)
    return training_history(path)


def losses(history: pd.DataFrame, event: str) -> dict[int, float]:
    rows = history[history["event"] == event]
    assert rows["step"].is_unique
    return dict(zip(rows["step"], rows["loss"], strict=True))


def test_repeated_steps_are_those_of_the_resumed_run(tmp_path: Path):
    """Steps after the checkpoint set are dropped, even if the resumed run reports others."""
    history = history_of(
        tmp_path,
        started(steps_per_epoch=10),
        *(train_step(step=step, epoch=1, loss=1.0) for step in (5, 10)),
        *ends(10, 1, loss=1.0),
        *(train_step(step=step, epoch=2, loss=1.0) for step in (15, 18)),
        started(first_step=13, steps_per_epoch=10),
        *(train_step(step=step, epoch=2, loss=2.0) for step in (15, 20)),
        *ends(20, 2, loss=2.0),
    )
    assert losses(history, "train_step") == {5: 1.0, 10: 1.0, 15: 2.0, 20: 2.0}
    assert losses(history, "eval_end") == {10: 1.0, 20: 2.0}
    assert history.loc[history["event"] == "resumed", ["step", "epoch"]].to_numpy().tolist() == [[13, 2]]


def test_a_run_that_starts_again_keeps_nothing(tmp_path: Path):
    """Without a checkpoint set, a restart repeats all steps."""
    events = [started(steps_per_epoch=10), train_step(step=5, epoch=1, loss=1.0), started(steps_per_epoch=10)]
    history = history_of(tmp_path, *events, train_step(step=4, epoch=1, loss=2.0))
    assert losses(history, "train_step") == {4: 2.0}


def test_steps_are_counted_as_in_the_last_run(tmp_path: Path):
    """A run is resumed with twice as many images per step. Each epoch remains, and no two steps are confused."""
    history = history_of(
        tmp_path,
        started(steps_per_epoch=20),
        *(event for epoch in (1, 2) for event in ends(20 * epoch, epoch, loss=float(epoch))),
        train_step(step=50, epoch=3, loss=3.0),
        started(first_step=25, steps_per_epoch=10),
        *(event for epoch in (3, 4) for event in ends(10 * epoch, epoch, loss=float(epoch))),
    )
    assert losses(history, "train_step") == {25: 3.0}
    assert losses(history, "eval_end") == losses(history, "epoch_end") == {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0}
    assert history["step"].is_monotonic_increasing
