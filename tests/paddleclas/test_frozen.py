"""A run that was frozen as a whole, for example by `docker pause`, is not mistaken for a hung rank."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from resnet50_pipeline.paddleclas.launch.heartbeats import HeartbeatWatch
from resnet50_pipeline.paddleclas.launch.processes import GUARD_PROGRAM
from resnet50_pipeline.processes.awake_clock import AwakeClock
from resnet50_pipeline.training_dir import heartbeat_path


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_time_while_frozen_does_not_count():
    """A long gap between two reads counts as only a few seconds, whereas normal polls count in full."""
    clock = Clock()
    awake = AwakeClock(clock)
    for _ in range(8):
        clock.now += 0.25
        awake()
    assert awake() == 2.0
    clock.now += 3600.0
    assert awake() < 10.0


def watch_ranks(training_dir: Path, gaps: list[float]) -> dict[int, float]:
    """Return the silent ranks after polls with these gaps, with a timeout of 30 s."""
    clock = Clock()
    watch = HeartbeatWatch(training_dir, 30.0, AwakeClock(clock))
    watch.silent_ranks(range(1))
    silent: dict[int, float] = {}
    for gap in gaps:
        clock.now += gap
        silent = watch.silent_ranks(range(1))
    return silent


def test_frozen_run_continues(tmp_path):
    """After an hour in which nothing ran, no rank is silent. Without a step, a rank becomes silent 30 s later."""
    heartbeat_path(tmp_path, 0).touch()
    assert watch_ranks(tmp_path, [1.0] * 10 + [3600.0, 1.0]) == {}
    assert 0 in watch_ranks(tmp_path, [1.0] * 10 + [3600.0] + [1.0] * 30)


def test_frozen_guard_continues(tmp_path):
    """A guard that is stopped for longer than its signal timeout resumes afterward, and ends like its command."""
    command = ["sh", "-c", f"touch {tmp_path}/up; sleep 2; exit 7"]
    guard = subprocess.Popen([sys.executable, "-I", "-S", GUARD_PROGRAM, str(os.getpid()), *command])
    while not (tmp_path / "up").exists():
        time.sleep(0.01)
    guard.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    guard.send_signal(signal.SIGCONT)
    assert guard.wait() == 7
