"""A rank's sign of life, and its end when the process above it is gone."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from pathlib import Path

from resnet50_pipeline.training_dir import heartbeat_path

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_BEAT_SECONDS = 1.0


class Heartbeat:
    """Touches `heartbeat.<rank>` at most once a second: its modification time is the last finished step's."""

    def __init__(self, training_dir: Path, rank: int) -> None:
        self.folder = training_dir
        self._path = heartbeat_path(training_dir, rank)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._last = time.monotonic()

    def beat(self) -> None:
        """Say that a step is done."""
        now = time.monotonic()
        if now - self._last >= _BEAT_SECONDS:
            os.utime(self._path)
            self._last = now


def exit_with_parent() -> None:
    """Let the kernel end this process with the one that started it, whatever it is doing by then.

    Of a rank that is the launcher, and the guard above it ends ranks without one (`paddleclas/guard.py`); this holds
    where the guard is killed. Of a loader process it is the rank.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def tell_stacks_when_asked() -> None:
    """Let SIGUSR1 write where every thread is to the log; the supervisor asks a rank that hangs."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
