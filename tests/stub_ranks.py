"""Stub ranks that misbehave on demand. Paddle's launcher starts them in tests of the supervisor.

`what` sets the behavior of rank 1 (or both). A canary in the arguments identifies every process of a test.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks

PROGRAM = """
import faulthandler, os, pathlib, signal, sys, time
what, folder, canary = sys.argv[1:]
folder = pathlib.Path(folder)
rank = os.environ["PADDLE_TRAINER_ID"]
beat = folder / ("heartbeat." + rank)
faulthandler.register(signal.SIGUSR1)

def finish_step(number, frame):
    time.sleep(2 if rank == "0" else 0.1)
    (folder / ("saved." + rank)).touch()
    sys.exit(143)

def wait_in_a_bug():
    time.sleep(120)

if what == "orderly":
    signal.signal(signal.SIGTERM, finish_step)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what == "mute" and rank == "1":
    time.sleep(60)
beat.touch()
print("rank", rank, "is up", flush=True)
(folder / ("up." + rank)).write_text(str(os.getpid()))
if rank == "1":
    time.sleep(0.3)
    if what in ("killed", "killed and missed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "bus error":
        os.kill(os.getpid(), signal.SIGBUS)
    if what == "asked by a stranger":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "stuck":
        wait_in_a_bug()
    if what == "error":
        print("NonFiniteLossError: the loss is nan at step 3", file=sys.stderr, flush=True)
        sys.exit(1)
    if what == "cause and effect":
        print("ImageDecodeError: a.JPEG: no image", file=sys.stderr, flush=True)
        time.sleep(1)
        sys.exit(1)
    if what == "crash":
        raise RuntimeError("a bug")
    if what == "greedy":
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        bytearray(4 << 30)
if what == "cause and effect":
    time.sleep(0.5)
    raise RuntimeError("TIMEOUT self_rank = 0 pair_rank = 1")
if what == "good":
    sys.exit(0)
other = folder / "up.1"
while True:
    time.sleep(0.05)
    beat.touch()
    # Like gloo: a rank fails shortly after the other rank has ended.
    if what == "killed and missed" and rank == "0" and other.exists():
        try:
            gone = pathlib.Path("/proc", other.read_text(), "cmdline").read_bytes() == b""
        except FileNotFoundError:
            gone = True
        if gone:
            raise RuntimeError("Connection closed by peer")
"""


@pytest.fixture
def canary(tmp_path: Path) -> str:
    """A unique word in the arguments of every process of this test."""
    return f"canary-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def stub_launch(tmp_path: Path, canary: str) -> Iterator[Callable[[str], LaunchCommand]]:
    """Return a function that builds the command for two ranks that do `what`. No process may outlive the test."""
    program = tmp_path / "rank.py"
    program.write_text(PROGRAM)

    def build(what: str) -> LaunchCommand:
        arguments = [sys.executable, "-u", "-m", "paddle.distributed.launch", "--nproc_per_node=2"]
        arguments += [f"--log_dir={tmp_path / 'log'}", str(program), what, str(tmp_path), canary]
        return LaunchCommand(tuple(arguments), {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})

    yield build
    wait_for(lambda: not processes_with(canary), seconds=10)


def run(command: LaunchCommand, folder: Path, hang_timeout_seconds: float = 60.0, **changes: float) -> None:
    """Run two ranks until they end."""
    run_ranks(command, folder, folder / "log", hang_timeout_seconds, ranks=2, **changes)


def processes_with(canary: str) -> dict[str, psutil.Process]:
    """Return the running processes of a test: guard, launcher, ranks, and any others."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
            if canary not in arguments or process.status() == psutil.STATUS_ZOMBIE:
                continue
            rank = process.environ().get("PADDLE_TRAINER_ID")
        except psutil.Error:
            continue
        if any(part.endswith("guard.py") for part in arguments):
            name = "guard"
        else:
            name = "launcher" if rank is None else f"rank {rank}"
        found[name if name not in found else f"{name} ({process.pid})"] = process
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until the condition is true; fail after the given number of seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)
