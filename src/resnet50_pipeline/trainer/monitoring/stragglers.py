"""Finds ranks that are slower than the others, and determines whether image loading or the device is the cause.

The ranks wait for each other at every step, so a step takes the same time on all of them. A slow rank stands out only
by the time that it spends working. Each rank measures the two phases in which it never waits for others: loading a
batch, and the forward pass. The work after the forward pass is assumed to take the same multiple of the forward pass on
all ranks. The multiple is derived from the rank that waits least. The rest of a rank's step is waiting time.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 1.3
"""A rank is slow if its loading and computing take longer than this multiple of the median."""
INTERVALS = 5
"""Number of consecutive intervals after which a slow rank is reported."""
_MIN_SECONDS = 1.0  # shorter intervals are combined, because single steps vary too much


@dataclass(frozen=True)
class RankSeconds:
    """Mean seconds per step of each rank, each [ranks]. Their sum is the duration of a step."""

    loading: NDArray[np.float64]
    computing: NDArray[np.float64]
    waiting: NDArray[np.float64]

    def describe(self) -> dict[str, tuple[float, ...]]:
        """Return the field `rank_seconds` of a `train_step` event, rounded to microseconds."""
        named = {"load": self.loading, "compute": self.computing, "wait": self.waiting}
        return {name: tuple(np.round(seconds, 6).tolist()) for name, seconds in named.items()}

    @property
    def working(self) -> NDArray[np.float64]:
        """The time per step that each rank spends loading and computing, without waiting for the others."""
        working: NDArray[np.float64] = self.loading + self.computing
        return working


def split_step(loading: NDArray[np.float64], forward: NDArray[np.float64], step_seconds: float) -> RankSeconds | None:
    """Divide the duration of a step into each rank's time for loading, computing and waiting.

    Args:
        loading: [ranks], mean seconds per step spent waiting for batches.
        forward: [ranks], mean seconds per step of the forward pass.
        step_seconds: mean duration of a step.

    Returns:
        The times, or None if one of them was not measured.
    """
    if not (forward > 0).all() or step_seconds <= 0:
        return None
    multiple = max(float(((step_seconds - loading) / forward).min()), 1.0)
    computing = np.minimum(multiple * forward, np.maximum(step_seconds - loading, forward))
    return RankSeconds(loading, computing, np.maximum(step_seconds - loading - computing, 0.0))


class StragglerWatch:
    """Finds ranks that are slow for several intervals in a row. Reports a rank again only after it has caught up."""

    def __init__(self) -> None:
        self._slow: dict[int, int] = {}  # intervals in a row
        self._pending: list[tuple[float, RankSeconds]] = []

    def add(self, times: RankSeconds, seconds: float) -> list[str]:
        """Add an interval of the given duration, and return a warning for each rank that has become a straggler."""
        self._pending.append((seconds, times))
        total = sum(duration for duration, _ in self._pending)
        if total < _MIN_SECONDS:
            return []
        loading, working = (
            sum(duration * getattr(one, name) for duration, one in self._pending) / total
            for name in ("loading", "working")
        )
        self._pending = []
        # With two ranks, compare with the faster one.
        median = statistics.median_low(working.tolist())
        warnings = []
        for rank, own in enumerate(working.tolist()):
            self._slow[rank] = self._slow.get(rank, 0) + 1 if own > THRESHOLD * median else 0
            if self._slow[rank] == INTERVALS:
                warnings.append(_describe(rank, own, median, loading))
        return warnings


def _describe(rank: int, own: float, median: float, loading: NDArray[np.float64]) -> str:
    extra = float(loading[rank]) - statistics.median_low(loading.tolist())
    if extra > (own - median) / 2:
        reason = (
            f"it waits {1000 * float(loading[rank]):.0f} ms per step for its images; check the disk, network and "
            "processors of its machine, or raise training.loader.num_workers"
        )
    else:
        reason = "its device is slow; check the device's clock and temperature, and which other programs are using it"
    return (
        f"rank {rank} is slow: for {INTERVALS} intervals, its steps have taken {own / median:.1f} times as long as "
        f"those of the median rank ({1000 * own:.0f} ms instead of {1000 * median:.0f} ms), and all other ranks wait "
        f"for it: {reason}"
    )
