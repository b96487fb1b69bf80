"""Who of the ranks has been silent for too long, told by their heartbeat files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from resnet50_pipeline.training_dir import heartbeat_path


class HeartbeatWatch:
    """Times how long each rank's heartbeat file has stood unchanged, on this machine's monotonic clock.

    The files' own times are compared with one another only: ranks may run on machines whose clocks differ, and a
    laptop may have slept.
    """

    def __init__(self, training_dir: Path, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._training_dir, self._timeout_seconds, self._clock = training_dir, timeout_seconds, clock
        self._seen: dict[int, tuple[int | None, float]] = {}

    def silent_ranks(self, ranks: range) -> dict[int, float]:
        """Return the ranks without a sign of life for longer than the timeout, with the seconds, longest first.

        A rank that never gave one counts from the first time it was asked for.
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
