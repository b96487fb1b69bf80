"""Names ranks that are slower than the others, and says whether their images or their device are the reason.

The ranks wait for each other at every step, so all steps take equally long, and only a rank's own work shows which one
is slow. A rank measures the time for loading a batch and for the forward pass, in which it does not wait. The backward
pass, the reduction and the optimizer take a multiple of the forward pass, which is the same on all ranks. The rank that
waits least shows this multiple; the rest of the step is the time that a rank has waited.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 1.3
"""A rank is slow if its loading and computing take longer than this multiple of the median."""
INTERVALS = 5
"""Number of consecutive intervals after which a slow rank is named."""
_MIN_SECONDS = 1.0  # shorter intervals are combined, because single steps vary too much


@dataclass(frozen=True)
class RankSeconds:
    """Mean seconds per step of each rank, each [ranks]. Their sum is the duration of a step."""

    loading: NDArray[np.float64]
    computing: NDArray[np.float64]
    waiting: NDArray[np.float64]

    def describe(self) -> dict[str, tuple[float, ...]]:
        """Return the field `rank_seconds` of a `train_step` event, to the microsecond."""
        named = {"load": self.loading, "compute": self.computing, "wait": self.waiting}
        return {name: tuple(np.round(seconds, 6).tolist()) for name, seconds in named.items()}

    @property
    def working(self) -> NDArray[np.float64]:
        """The duration of a step if a rank did not have to wait for the others."""
        working: NDArray[np.float64] = self.loading + self.computing
        return working


def split_step(loading: NDArray[np.float64], forward: NDArray[np.float64], step_seconds: float) -> RankSeconds | None:
    """Divide the duration of a step into the time that each rank has loaded, computed and waited.

    Args:
        loading: [ranks], mean seconds per step spent waiting for batches.
        forward: [ranks], mean seconds per step of the forward pass.
        step_seconds: mean duration of a step.

    Returns:
        None if a time was not measured.
    """
    if not (forward > 0).all() or step_seconds <= 0:
        return None
    multiple = max(float(((step_seconds - loading) / forward).min()), 1.0)
    computing = np.minimum(multiple * forward, np.maximum(step_seconds - loading, forward))
    return RankSeconds(loading, computing, np.maximum(step_seconds - loading - computing, 0.0))


class StragglerWatch:
    """Finds ranks that are slow for several intervals in a row. Each is named once, until it keeps up again."""

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
            f"it waits {1000 * float(loading[rank]):.0f} ms per step for its images; check the disk, the network and "
            "the processors of its machine, or raise training.loader.num_workers"
        )
    else:
        reason = "its device computes more slowly; check its clock and temperature, and which other programs use it"
    return (
        f"rank {rank} is slow: for {INTERVALS} intervals, its steps have taken {own / median:.1f} times as long as "
        f"those of the median rank ({1000 * own:.0f} ms instead of {1000 * median:.0f} ms), and all other ranks wait "
        f"for it: {reason}"
    )
