"""PaddleClas' log lines become the project's events."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from resnet50_pipeline.events import EpochEnd, EvalEnd, Finished, Started, TrainStep, WarningRaised
from resnet50_pipeline.exceptions import NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.upstream.events import EventBuilder, RunFacts
from resnet50_pipeline.paddleclas.upstream.log import (
    BestMetric,
    EvalAverage,
    EvalLine,
    ImageReplaced,
    PaddleFound,
    TrainAverage,
    TrainLine,
)

FACTS = RunFacts(
    ranks=2,
    device="gpu",
    epochs=2,
    train_images=41,
    val_images=21,
    batch_size_per_rank=4,
    eval_batch_size_per_rank=4,
    drop_last=False,
    update_freq=1,
    has_ema=False,
)


def line(iteration: int, loss: float, top1: float, *, epoch: int = 1, iterations: int = 6) -> TrainLine:
    values = {"loss": round(loss, 5), "top1": round(top1, 5), "batch_cost": 0.5, "reader_cost": 0.1}
    return TrainLine(epoch, iteration, iterations, 0.1, values)


def test_running_means_become_interval_means():
    """Upstream's means since the start of the epoch become means since the previous event."""
    losses, hits, images = [2.0, 1.0, 4.0, 3.0, 0.5, 1.5], [1, 0, 4, 2, 3, 1], [4, 4, 4, 4, 4, 1]
    builder = EventBuilder(FACTS)
    seen = np.cumsum(images)
    means = np.cumsum(np.multiply(losses, images)) / seen
    accuracies = np.cumsum(hits) / seen
    steps = [
        event
        for number in (0, 2, 4, 5)
        for event in builder.add(line(number, means[number], accuracies[number]))
        if isinstance(event, TrainStep)
    ]
    assert [step.step for step in steps] == [1, 3, 5, 6]
    assert [step.loss for step in steps] == pytest.approx([2.0, 2.5, 1.75, 1.5], abs=2e-4)
    assert [step.top1 for step in steps] == [1 / 4, 4 / 8, 5 / 8, 1.0]
    assert steps[1].images_per_second == 4 * 2 / 0.5


def test_epoch_yields_events_in_order():
    """An epoch yields a start event, one event per line, the epoch's means, the evaluation, and an end event."""
    builder = EventBuilder(replace(FACTS, epochs=1), clock=itertools.count(10.0).__next__)
    entries = [
        PaddleFound("2.6.2"),
        line(0, 2.0, 0.25),
        line(5, 1.0, 0.5),
        TrainAverage(1, {"loss": 1.0, "top1": 0.5}),
        EvalLine({"batch_cost": 0.25}),
        EvalAverage(1, {"loss": 0.9, "top1": 0.7619, "top5": 1.0}),
        BestMetric(1, is_ema=False),
    ]
    events = [event for entry in entries for event in builder.add(entry)] + builder.finish()
    kinds = [type(event) for event in events]
    assert kinds == [Started, TrainStep, TrainStep, EpochEnd, EvalEnd, Finished]
    started, _, _, epoch, evaluated, finished = events
    assert (started.ranks, started.steps_per_epoch, started.paddle_version) == (2, 6, "2.6.2")
    assert epoch.seconds == pytest.approx(3.0)
    assert epoch.images_per_second == pytest.approx(42 / 3.0)
    # The exact 16 of 21, not the printed value with five decimals.
    assert (evaluated.top1, evaluated.images, evaluated.is_best) == (16 / 21, 21, True)
    assert (finished.best_epoch, finished.best_top1, finished.step) == (1, 16 / 21, 6)


def test_resumed_run_continues_step_count():
    """A resumed run continues the step count, and an epoch becomes the new best only if it beats the previous best."""
    builder = EventBuilder(replace(FACTS, finished_epochs=1), best_epoch=1, best_top1=0.5)
    started, step = builder.add(line(0, 2.0, 0.25, epoch=2))
    assert (started.first_step, step.step) == (6, 7)
    builder.add(EvalAverage(2, {"loss": 0.9, "top1": 10 / 21, "top5": 1.0}))
    (evaluated,) = builder.add(BestMetric(2, is_ema=False))
    assert not evaluated.is_best
    assert (builder.best_epoch, builder.best_top1) == (1, 0.5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_not_finite_ends_upstream_run(loss: float):
    """A loss that is NaN or infinite ends the run."""
    builder = EventBuilder(FACTS)
    with pytest.raises(NonFiniteLossError, match=r"step 3 \(epoch 1\)"):
        builder.add(line(2, loss, 0.0))
    with pytest.raises(NonFiniteLossError, match="val loss"):
        builder.add(EvalAverage(1, {"loss": loss, "top1": 0.0, "top5": 0.0}))
        builder.add(BestMetric(1, is_ema=False))


def test_evaluation_of_averaged_weights_counts():
    """With EMA, the evaluation of the averaged weights is used."""
    builder = EventBuilder(replace(FACTS, has_ema=True))
    assert builder.add(EvalAverage(1, {"loss": 1.0, "top1": 2 / 21, "top5": 1.0})) == []
    assert builder.add(BestMetric(1, is_ema=False)) == []
    builder.add(EvalAverage(1, {"loss": 1.0, "top1": 5 / 21, "top5": 1.0}))
    (evaluated,) = builder.add(BestMetric(1, is_ema=True))
    assert evaluated.top1 == 5 / 21


def test_accumulation_counts_optimizer_steps():
    """With Global.update_freq, steps are optimizer steps, and leftover batches are not counted."""
    facts = replace(FACTS, update_freq=4)
    assert (facts.iterations, facts.steps_after(1, 4), facts.steps_after(2, 3), facts.steps_after(3, 0)) == (4, 1, 1, 2)
    builder = EventBuilder(facts)
    started, _ = builder.add(line(0, 1.0, 0.0, iterations=4))
    assert started.steps_per_epoch == 1


def test_unexpected_epoch_length_is_an_error():
    """An unexpected number of batches per epoch is an error, because every step number would be wrong."""
    with pytest.raises(RankFailedError, match=r"\b7 batches.*\b6\b"):
        EventBuilder(FACTS).add(line(0, 1.0, 0.0, iterations=7))


def test_dali_batches_come_from_the_log():
    """With DALI, the number of batches is taken from the log."""
    builder = EventBuilder(FACTS, uses_dali=True)
    started, step = builder.add(line(0, 1.0, 0.0, epoch=2, iterations=7))
    assert (started.steps_per_epoch, step.step) == (7, 8)


def test_repeated_sampling_rounds_to_256_images():
    """In a RASampler epoch, the number of images on all ranks is a multiple of 256."""
    facts = replace(FACTS, train_images=600, repeats_images=True)
    assert (facts.images_per_rank, facts.iterations) == (256, 64)


def test_mixed_batches_have_nan_accuracy():
    """With batch_transform_ops, upstream prints no accuracy, and the event contains NaN."""
    builder = EventBuilder(FACTS)
    without = TrainLine(1, 0, 6, 0.1, {"loss": 1.0, "batch_cost": 0.5, "reader_cost": 0.1})
    _, step = builder.add(without)
    assert math.isnan(step.top1)
    (epoch,) = builder.add(TrainAverage(1, {"loss": 1.0}))
    assert math.isnan(epoch.top1)


def test_replaced_image_is_a_warning():
    """An image that upstream has replaced causes a warning."""
    (event,) = EventBuilder(FACTS).add(ImageReplaced("a.JPEG with msg: broken"))
    assert isinstance(event, WarningRaised)
    assert "a.JPEG" in event.message


def test_early_exit_before_last_epoch_is_an_error():
    """Exit code 0 before the last epoch is an error."""
    with pytest.raises(RankFailedError, match="after epoch 0 of 2"):
        EventBuilder(FACTS).finish()
