"""What events follow from PaddleClas' log lines."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from resnet50_pipeline.events import EpochEnd, EvalEnd, Finished, Started, TrainStep, WarningRaised
from resnet50_pipeline.exceptions import NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.upstream_events import EventBuilder, RunFacts
from resnet50_pipeline.paddleclas.upstream_log import (
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


def test_running_means_become_means_since_the_last_line():
    """Upstream prints the epoch's means so far; an event says what happened since the event before."""
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


def test_the_story_of_an_epoch():
    """Start at the first line, an event a line, the epoch's own means, the evaluation, and the end."""
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
    # 16 of 21, exactly, and not the five decimals that were printed.
    assert (evaluated.top1, evaluated.images, evaluated.is_best) == (16 / 21, 21, True)
    assert (finished.best_epoch, finished.best_top1, finished.step) == (1, 16 / 21, 6)


def test_a_resumed_run_counts_on():
    """Steps go on from the finished epochs, and only a better epoch than the best before is the best."""
    builder = EventBuilder(replace(FACTS, finished_epochs=1), best_epoch=1, best_top1=0.5)
    started, step = builder.add(line(0, 2.0, 0.25, epoch=2))
    assert (started.first_step, step.step) == (6, 7)
    builder.add(EvalAverage(2, {"loss": 0.9, "top1": 10 / 21, "top5": 1.0}))
    (evaluated,) = builder.add(BestMetric(2, is_ema=False))
    assert not evaluated.is_best
    assert (builder.best_epoch, builder.best_top1) == (1, 0.5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(loss: float):
    """Upstream would train on to the last epoch."""
    builder = EventBuilder(FACTS)
    with pytest.raises(NonFiniteLossError, match=r"step 3 \(epoch 1\)"):
        builder.add(line(2, loss, 0.0))
    with pytest.raises(NonFiniteLossError, match="val loss"):
        builder.add(EvalAverage(1, {"loss": loss, "top1": 0.0, "top5": 0.0}))
        builder.add(BestMetric(1, is_ema=False))


def test_averaged_weights_are_the_ones_that_count():
    """With EMA upstream evaluates twice, and saves the averaged weights as .pdparams."""
    builder = EventBuilder(replace(FACTS, has_ema=True))
    assert builder.add(EvalAverage(1, {"loss": 1.0, "top1": 2 / 21, "top5": 1.0})) == []
    assert builder.add(BestMetric(1, is_ema=False)) == []
    builder.add(EvalAverage(1, {"loss": 1.0, "top1": 5 / 21, "top5": 1.0}))
    (evaluated,) = builder.add(BestMetric(1, is_ema=True))
    assert evaluated.top1 == 5 / 21


def test_accumulated_gradients_make_fewer_steps():
    """With Global.update_freq an event's step is an optimizer step, and upstream leaves out what fills none."""
    facts = replace(FACTS, update_freq=4)
    assert (facts.iterations, facts.steps_after(1, 4), facts.steps_after(2, 3), facts.steps_after(3, 0)) == (4, 1, 1, 2)
    builder = EventBuilder(facts)
    started, _ = builder.add(line(0, 1.0, 0.0, iterations=4))
    assert started.steps_per_epoch == 1


def test_an_epoch_of_another_length_is_refused():
    """A list that changed, or a checkout that counts otherwise, would put every event at the wrong step."""
    with pytest.raises(RankFailedError, match="7 batches an epoch where 6 follow"):
        EventBuilder(FACTS).add(line(0, 1.0, 0.0, iterations=7))


def test_dali_counts_for_itself():
    """Its loader pads as it likes, so the log's own number of batches holds."""
    builder = EventBuilder(FACTS, uses_dali=True)
    started, step = builder.add(line(0, 1.0, 0.0, epoch=2, iterations=7))
    assert (started.steps_per_epoch, step.step) == (7, 8)


def test_repeated_images_come_in_256s():
    """RASampler's epoch is whole times 256 images over all ranks."""
    facts = replace(FACTS, train_images=600, repeats_images=True)
    assert (facts.images_per_rank, facts.iterations) == (256, 64)


def test_mixed_batches_have_no_accuracy():
    """Upstream prints none with batch_transform_ops; the event says NaN, not 0."""
    builder = EventBuilder(FACTS)
    without = TrainLine(1, 0, 6, 0.1, {"loss": 1.0, "batch_cost": 0.5, "reader_cost": 0.1})
    _, step = builder.add(without)
    assert math.isnan(step.top1)
    (epoch,) = builder.add(TrainAverage(1, {"loss": 1.0}))
    assert math.isnan(epoch.top1)


def test_a_replaced_image_is_a_warning():
    """Upstream takes a random other image, in evaluation too, and only its log says so."""
    (event,) = EventBuilder(FACTS).add(ImageReplaced("a.JPEG with msg: broken"))
    assert isinstance(event, WarningRaised)
    assert "a.JPEG" in event.message


def test_an_early_end_without_an_error_is_one():
    """Exit code 0 before the last epoch is no success."""
    with pytest.raises(RankFailedError, match="after epoch 0 of 2"):
        EventBuilder(FACTS).finish()
