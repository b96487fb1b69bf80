"""Learning rates follow PaddleClas' formulas and depend only on the step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.optimization import Cosine, Linear, Piecewise
from resnet50_pipeline.trainer.optimization.optimizer import ScheduleConfig, build_schedule
from resnet50_pipeline.trainer.run_data import steps_per_epoch

REFERENCE = Piecewise(name="Piecewise", decay_epochs=(30, 60, 90), values=(0.1, 0.01, 0.001, 0.0001))


def rates(config: ScheduleConfig, epochs: int, steps: int) -> list[float]:
    schedule = build_schedule(config, epochs, steps)
    found = []
    for _ in range(epochs * steps):
        found.append(schedule())
        schedule.step()
    return found


def test_piecewise_drops_at_the_ends_of_epochs():
    """The reference schedule starts at 0.1 and is divided by 10 after epochs 30, 60 and 90."""
    expected = [0.1] * 300 + [0.01] * 300 + [0.001] * 300 + [0.0001] * 300
    assert rates(REFERENCE, epochs=120, steps=10) == expected


def test_boundaries_are_shifted_by_the_warm_up():
    """As in upstream, decay_epochs count from the end of the warm-up."""
    config = REFERENCE.model_copy(update={"warmup_epoch": 5, "decay_epochs": (2,), "values": (0.1, 0.01)})
    found = rates(config, epochs=10, steps=2)
    np.testing.assert_allclose(found[:10], np.arange(10) / 100)
    assert found[10:] == [0.1] * 4 + [0.01] * 6


def test_cosine_follows_half_a_period_after_a_linear_warm_up():
    """After the warm-up, Cosine follows lr(t) = eta_min + (peak - eta_min) (1 + cos(pi t / T)) / 2."""
    config = Cosine(name="Cosine", learning_rate=0.4, eta_min=0.1, warmup_epoch=1, warmup_start_lr=0.2)
    found = rates(config, epochs=5, steps=10)
    np.testing.assert_allclose(found[:10], np.linspace(0.2, 0.4, 11)[:10], rtol=1e-12)
    expected = [0.1 + 0.3 * (1 + math.cos(math.pi * t / 40)) / 2 for t in range(40)]
    np.testing.assert_allclose(found[10:], expected, rtol=1e-12)


def test_linear_follows_its_formula():
    """The Linear schedule follows lr(t) = end + (peak - end) (1 - t / T)^power."""
    config = Linear(name="Linear", learning_rate=0.4, end_lr=0.1, power=2.0, warmup_epoch=1)
    expected = [0.1 + 0.3 * (1 - t / 40) ** 2 for t in range(40)]
    np.testing.assert_allclose(rates(config, epochs=5, steps=10)[10:], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        REFERENCE.model_copy(update={"by_epoch": True, "decay_epochs": (2, 3, 4)}),
        Cosine(name="Cosine", learning_rate=0.4, by_epoch=True, warmup_epoch=2),
        Linear(name="Linear", learning_rate=0.4, by_epoch=True),
    ],
    ids=lambda config: config.name,
)
def test_by_epoch_changes_the_rate_between_epochs_only(config: ScheduleConfig):
    """With `by_epoch`, all steps in an epoch have the same rate as in a schedule with one step per epoch."""
    by_step = config.model_copy(update={"by_epoch": False})
    assert rates(config, epochs=6, steps=7) == [rate for rate in rates(by_step, 6, 1) for _ in range(7)]


@given(
    epochs=st.integers(1, 20),
    steps=st.integers(1, 30),
    stop=st.floats(0, 1),
    warm_up=st.integers(0, 5),
    by_epoch=st.booleans(),
)
def test_resumed_schedule_continues_exactly(epochs: int, steps: int, stop: float, warm_up: int, by_epoch: bool):
    """A new schedule that is restored from the state at any step returns identical rates from that step on."""
    config = Cosine(name="Cosine", learning_rate=0.1, warmup_epoch=min(warm_up, epochs - 1), by_epoch=by_epoch)
    whole = rates(config, epochs, steps)
    stopped_at = int(stop * (len(whole) - 1))
    first = build_schedule(config, epochs, steps)
    for _ in range(stopped_at):
        first.step()
    resumed = build_schedule(config, epochs, steps)
    resumed.set_state_dict(first.state_dict())
    found = []
    for _ in range(stopped_at, len(whole)):
        found.append(resumed())
        resumed.step()
    assert found == whole[stopped_at:]


def test_incomplete_steps_are_dropped():
    """As in upstream, 11 batches make 5 steps of 2. An epoch with too few batches for a step is an error."""
    assert steps_per_epoch(11, update_freq=2) == 5
    with pytest.raises(TrainingConfigError, match=r"Global\.update_freq.*12.*11"):
        steps_per_epoch(11, update_freq=12)
