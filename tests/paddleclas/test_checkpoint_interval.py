"""The interval between checkpoint sets that minimizes lost time follows from the pause and the failure rate."""

from __future__ import annotations

import math

import pytest

from example_events import started, train_step
from resnet50_pipeline.events import CheckpointSaved, EventWriter, Started, TrainStep
from resnet50_pipeline.paddleclas.checkpoint_interval import (
    IntervalAdvice,
    SaveCosts,
    find_best_interval,
    measure_costs,
)
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.checkpoints import check_save_interval
from resnet50_pipeline.training_dir import events_path

COSTS = SaveCosts(stall_seconds=0.5, step_seconds=0.2, steps_per_epoch=5000, epochs=120)


def started_on_gpu(epochs: int = 120) -> Started:
    return started(device="gpu", epochs=epochs, steps_per_epoch=5000)


def step(seconds: float) -> TrainStep:
    return train_step(batch_seconds=seconds)


def saved(stall: float) -> CheckpointSaved:
    return CheckpointSaved(epoch=0, step=1, path="p", seconds=9, stall_seconds=stall, is_best=False)


@pytest.fixture
def training(training_parameters):
    """Training with a set every 1000 steps on one machine with a failure every 10 days."""
    training = training_parameters(save_interval_steps=1000)
    launch = LaunchParameters(**(training.launch.model_dump() | {"days_between_failures": 10}))
    return training.model_copy(update={"launch": launch})


def test_interval_of_young_and_daly(training):
    """The interval is sqrt(2 x pause x time between failures). Neighboring intervals lose more."""
    best = find_best_interval(COSTS, training)
    assert best.seconds == pytest.approx(math.sqrt(2 * 0.5 * 10 * 86_400), abs=0.2)  # 930 s
    assert best.steps == 4648
    assert best.loss == pytest.approx(0.5 / 929.6 + 929.6 / 2 / 864_000)
    assert (best.current_steps, best.current_loss) == (1000, pytest.approx(0.5 / 200 + 200 / 2 / 864_000))
    for steps in (4000, 5300):
        other = find_best_interval(COSTS, training.model_copy(update={"save_interval_steps": steps}))
        assert other.current_loss > best.loss
    epochs = find_best_interval(COSTS, training.model_copy(update={"save_interval_steps": 0, "save_interval": 2}))
    assert epochs.current_steps == 10_000


def test_more_machines_fail_more_often(training):
    """Four machines fail four times as often, so the interval is half as long."""
    one = find_best_interval(COSTS, training)
    launch = training.launch.model_copy(update={"nnodes": 4, "master": "10.0.0.1:8765"})
    four = find_best_interval(COSTS, training.model_copy(update={"launch": launch}))
    assert four.steps == one.steps // 2


def test_a_run_describes_the_interval_once(training):
    """After three sets, the run describes the interval. A run that is shorter than the interval does not."""
    advice = IntervalAdvice(training)
    events = [
        started_on_gpu(),
        step(0.2),
        saved(5.0),
        step(0.2),
        saved(0.5),
        step(9.0),
        saved(0.5),
        step(0.2),
        saved(0.5),
    ]
    described = [text for event in events if (text := advice.add(event))]
    assert len(described) == 1
    assert described[0].startswith("saving a set every 4,648 steps (930 s) minimizes lost time (0.11%); the configured")
    assert described[0].endswith("pauses training for 500 ms, and a failure is expected every 10 days")
    short = IntervalAdvice(training)
    few = started_on_gpu(epochs=1).model_copy(update={"steps_per_epoch": 100})
    assert {short.add(event) for event in [few, *events[1:]]} == {None}


def test_preflight_uses_an_earlier_run(training):
    """Preflight reports the interval if the training folder has events with a set, and otherwise nothing."""
    assert not list(check_save_interval(training, training.output_dir))
    writer = EventWriter(events_path(training.output_dir))
    for event in (started_on_gpu(), step(0.2), saved(0.5)):
        writer.write(event)
    writer.close()
    (finding,) = check_save_interval(training, training.output_dir)
    assert (finding.check, finding.status) == ("save interval", "ok")
    assert finding.found.startswith("saving a set every 4,648 steps")
    assert measure_costs([started_on_gpu(), step(0.2)]) is None
