"""A rank that is slower than the others for several intervals is reported with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from resnet50_pipeline.trainer.monitoring.stragglers import INTERVALS, RankSeconds, StragglerWatch, split_step

# A step of a rank that does not wait: 0.1 s forward, and 0.2 s backward, reduction and optimizer.
FORWARD, REST = 0.1, 0.2


def measure(loading: list[float], pace: list[float]) -> RankSeconds:
    """Return the times of ranks that load for some time, and whose devices are slower by a factor."""
    own = [load + factor * (FORWARD + REST) for load, factor in zip(loading, pace, strict=True)]
    times = split_step(np.array(loading), FORWARD * np.array(pace), max(own))
    assert times is not None
    return times


def test_step_is_divided_into_loading_computing_and_waiting():
    """The times of each rank add up to the step, and the slowest rank does not wait."""
    times = measure([0.0, 0.0, 0.3], [1.0, 1.5, 1.0])
    np.testing.assert_allclose(times.computing, [0.3, 0.45, 0.3])
    np.testing.assert_allclose(times.loading, [0.0, 0.0, 0.3])
    np.testing.assert_allclose(times.waiting, [0.3, 0.15, 0.0], atol=1e-12)
    assert split_step(np.zeros(2), np.zeros(2), 1.0) is None


@pytest.mark.parametrize(
    ("loading", "pace", "rank", "reason"),
    [
        ([0, 0.15, 0, 0], [1, 1, 1, 1], 1, "waits 150 ms per step for its images"),
        ([0.01, 0, 0, 0], [1, 1, 1, 1.5], 3, "its device is slow"),
        ([0.0, 0.12], [1, 1], 1, "waits 120 ms per step for its images"),
        ([0.0, 0.0], [1.4, 1], 0, "its device is slow"),
    ],
)
def test_a_slow_rank_is_named_once_after_five_intervals(loading: list, pace: list, rank: int, reason: str):
    """The warning appears in the fifth interval. It appears again only after the rank has kept up with the others."""
    watch, slow = StragglerWatch(), measure(loading, pace)
    even = measure([0.0] * len(pace), [1.0] * len(pace))
    warnings = [watch.add(slow, 2.0) for _ in range(2 * INTERVALS)]
    (warning,) = warnings[INTERVALS - 1]
    assert not [one for one in warnings[: INTERVALS - 1] + warnings[INTERVALS:] if one]
    assert warning.startswith(f"rank {rank} is slow")
    assert reason in warning
    assert not watch.add(even, 2.0)
    again = [watch.add(slow, 2.0) for _ in range(INTERVALS)]
    assert len(again[-1]) == 1


def test_small_differences_and_single_intervals_are_ignored():
    """A rank 1.25 times as slow, or slow in four intervals in a row, is not named."""
    watch = StragglerWatch()
    assert not [one for _ in range(20) if (one := watch.add(measure([0, 0, 0], [1, 1, 1.25]), 2.0))]
    for _ in range(3):
        assert not [one for _ in range(INTERVALS - 1) if (one := watch.add(measure([0, 0.3, 0], [1, 1, 1]), 2.0))]
        assert not watch.add(measure([0, 0, 0], [1, 1, 1]), 2.0)


def test_short_intervals_are_combined():
    """Intervals of 0.25 s are combined, so four times as many are needed."""
    watch, slow = StragglerWatch(), measure([0, 0.3, 0], [1, 1, 1])
    warnings = [watch.add(slow, 0.25) for _ in range(4 * INTERVALS)]
    assert [bool(one) for one in warnings] == [False] * (4 * INTERVALS - 1) + [True]
