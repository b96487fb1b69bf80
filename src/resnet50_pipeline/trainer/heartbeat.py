"""Writes heartbeats, which show the supervisor that a rank is making progress."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from pathlib import Path

from resnet50_pipeline.training_dir import heartbeat_path

_BEAT_SECONDS = 1.0


class Heartbeat:
    """Touches `heartbeat.<rank>` after a step, at most once per second.

    The modification time of the file shows when the last step finished, to within one second.
    """

    def __init__(self, training_dir: Path, rank: int) -> None:
        self.folder = training_dir
        self._path = heartbeat_path(training_dir, rank)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._last = time.monotonic()

    def beat(self) -> None:
        """Record that a step has finished."""
        now = time.monotonic()
        if now - self._last >= _BEAT_SECONDS:
            os.utime(self._path)
            self._last = now


def dump_stacks_on_signal() -> None:
    """Print the stacks of all threads to stderr on SIGUSR1. The supervisor sends this signal to hung ranks."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
