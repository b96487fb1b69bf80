"""The first rank tells how far an evaluation of all ranks is, now and then."""

from __future__ import annotations

from resnet50_pipeline.events import EvalProgress
from resnet50_pipeline.trainer import evaluation
from resnet50_pipeline.trainer.evaluation import EvaluationReporter
from resnet50_pipeline.trainer.ranks import Ranks


def told(rank: int, monkeypatch) -> list[tuple[int, int, float]]:
    """Return what the rank tells of three batches of 30 images at 4, 6 and 12 seconds; two ranks see 100 images."""
    clock = iter([0.0, 4.0, 6.0, 12.0])
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    events: list[EvalProgress] = []
    reporter = EvaluationReporter(events.append, 100, Ranks(rank, 2, "cpu"))
    for _ in range(3):
        reporter.add(30)
    return [(event.images, event.total, event.images_per_second) for event in events]


def test_the_first_rank_tells_every_five_seconds_what_all_have_done(monkeypatch):
    """Nothing before five seconds; ranks are as fast as each other, and never do more than there is."""
    assert told(0, monkeypatch) == [(100, 100, 100 / 6), (100, 100, 100 / 12)]


def test_the_other_ranks_tell_nothing(monkeypatch):
    """One rank writes the events."""
    assert told(1, monkeypatch) == []
