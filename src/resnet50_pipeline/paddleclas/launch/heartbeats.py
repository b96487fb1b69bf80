"""Finds ranks without a recent heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from resnet50_pipeline.training_dir import heartbeat_path


class HeartbeatWatch:
    """Measures the time since each rank's heartbeat file last changed, using this machine's monotonic clock.

    Machines may have different clocks, so a modification time is compared only with the previous modification time of
    the same file.
    """

    def __init__(self, training_dir: Path, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._training_dir, self._timeout_seconds, self._clock = training_dir, timeout_seconds, clock
        self._seen: dict[int, tuple[int | None, float]] = {}

    def silent_ranks(self, ranks: range) -> dict[int, float]:
        """Return the ages in seconds of all heartbeats older than the timeout, keyed by rank, oldest first.

        If a rank has never sent a heartbeat, its age counts from the first call that includes the rank.
        """
        now = self._clock()
        for rank in ranks:
            beat = self._beat(rank)
            if rank not in self._seen or self._seen[rank][0] != beat:
                self._seen[rank] = (beat, now)
        silent = {rank: now - self._seen[rank][1] for rank in ranks}
        return {
            rank: seconds
            for rank, seconds in sorted(silent.items(), key=lambda item: -item[1])
            if seconds > self._timeout_seconds
        }

    def _beat(self, rank: int) -> int | None:
        try:
            return heartbeat_path(self._training_dir, rank).stat().st_mtime_ns
        except FileNotFoundError:
            return None
