"""Rank 0 reports the progress of an evaluation on all ranks every five seconds."""

from __future__ import annotations

from resnet50_pipeline.events import EvalProgress
from resnet50_pipeline.trainer import evaluation
from resnet50_pipeline.trainer.evaluation import EvaluationReporter
from resnet50_pipeline.trainer.ranks import Ranks


def reports(rank: int, monkeypatch) -> list[tuple[int, int, float]]:
    """Return one rank's progress reports for 3 batches of 30 images, completed after 4, 6 and 12 seconds.

    Two ranks split 100 images between them.
    """
    clock = iter([0.0, 4.0, 6.0, 12.0])
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    events: list[EvalProgress] = []
    reporter = EvaluationReporter(events.append, 100, Ranks(rank, 2, "cpu"))
    for _ in range(3):
        reporter.add(30)
    return [(event.images, event.total, event.images_per_second) for event in events]


def test_first_rank_reports_every_five_seconds(monkeypatch):
    """The reported number is rank 0's count times the number of ranks, but at most the total."""
    assert reports(0, monkeypatch) == [(100, 100, 100 / 6), (100, 100, 100 / 12)]


def test_other_ranks_do_not_report(monkeypatch):
    """Only rank 0 writes progress events."""
    assert reports(1, monkeypatch) == []
