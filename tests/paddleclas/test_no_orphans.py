"""No process of a run survives after any of them is killed, at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import RankFailedError
from stub_ranks import processes_with, run, wait_for

pytestmark = pytest.mark.slow

SUPERVISOR = """
    import json, pathlib, sys
    from resnet50_pipeline.processes.interruption import signals_interrupt
    from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
    from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
    folder = pathlib.Path(sys.argv[1])
    arguments, environment, grace = json.loads((folder / "command.json").read_text())
    with signals_interrupt():
        run_ranks(LaunchCommand(arguments, environment), folder, folder / "log", 60.0, ranks=2,
                  stop_grace_seconds=grace)
"""


@pytest.fixture
def supervised(stub_launch, tmp_path: Path):
    """Return a function that starts a separate supervisor process, whose ranks run `what`."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str, grace_seconds: float = 0.0) -> subprocess.Popen[str]:
        command = stub_launch(what)
        content = json.dumps([list(command.arguments), dict(command.environment), grace_seconds])
        (tmp_path / "command.json").write_text(content)
        program = [sys.executable, "-c", textwrap.dedent(SUPERVISOR), str(tmp_path)]
        started.append(subprocess.Popen(program, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def are_up(folder: Path) -> bool:
    return (folder / "up.0").exists() and (folder / "up.1").exists()


@pytest.mark.parametrize("moment", ["training", "starting", "with a stopped rank", "with a stopped launcher"])
def test_killed_supervisor_leaves_no_process(supervised, canary: str, tmp_path: Path, moment: str):
    """Ten seconds after the supervisor is killed, no rank, launcher or guard is left.

    It does not matter whether the ranks are starting, training or stopped.
    """
    process = supervised("work")
    if moment == "starting":
        wait_for(lambda: len(processes_with(canary)) >= 2, seconds=30)
    else:
        wait_for(lambda: are_up(tmp_path), seconds=30)
    stopped = {"with a stopped rank": "rank 1", "with a stopped launcher": "launcher"}.get(moment)
    if stopped:
        processes_with(canary)[stopped].suspend()
    process.kill()
    wait_for(lambda: not processes_with(canary), seconds=10)


@pytest.mark.parametrize("victim", ["launcher", "guard"])
def test_killed_launcher_or_guard_ends_ranks(supervised, canary: str, tmp_path: Path, victim: str):
    """If the launcher or the guard is killed, the ranks end, and the supervisor reports the signal."""
    process = supervised("work")
    wait_for(lambda: are_up(tmp_path), seconds=30)
    processes_with(canary)[victim].kill()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "RankFailedError: the launcher ended with signal SIGKILL" in stderr
    assert not processes_with(canary)


def test_launcher_killed_during_startup_leaves_no_rank(stub_launch, canary: str, tmp_path: Path):
    """If the launcher is killed during startup, no rank is left behind."""

    def kill() -> None:
        wait_for(lambda: "rank 0" in processes_with(canary), seconds=30)
        processes_with(canary)["launcher"].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RankFailedError, match="signal SIGKILL"):
        run(stub_launch("work"), tmp_path)
    killer.join()
    assert not processes_with(canary)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stop_waits_for_slowest_rank(supervised, canary: str, tmp_path: Path, number: int):
    """After a stop request, the supervisor waits until the slowest rank has saved.

    Without the supervisor, the launcher would have killed that rank when the first rank ended.
    """
    process = supervised("orderly", grace_seconds=20)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert f"RunInterruptedError: stopped by {signal.Signals(number).name}" in stderr
    assert (tmp_path / "saved.0").exists()
    assert (tmp_path / "saved.1").exists()
    assert not processes_with(canary)


def test_repeated_hangup_lets_ranks_save(supervised, canary: str, tmp_path: Path):
    """A closed terminal sends SIGHUP more than once, but the ranks still save a set."""
    process = supervised("orderly", grace_seconds=20)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
    _, stderr = process.communicate(timeout=30)
    assert "RunInterruptedError: stopped by SIGHUP" in stderr
    assert (tmp_path / "saved.0").exists()
    assert (tmp_path / "saved.1").exists()


def test_different_second_signal_ends_ranks_immediately(supervised, tmp_path: Path):
    """SIGTERM after SIGHUP ends the ranks immediately."""
    process = supervised("deaf", grace_seconds=600)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_guard_ends_ranks(supervised, canary: str, tmp_path: Path, number: int):
    """If the guard receives a stop signal, all processes below it end, and the exit code shows the signal."""
    process = supervised("work")
    wait_for(lambda: are_up(tmp_path), seconds=30)
    processes_with(canary)["guard"].send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert f"exit code {128 + number}" in stderr
    assert not processes_with(canary)


def test_stopped_rank_is_resumed_to_save(supervised, canary: str, tmp_path: Path):
    """A rank stopped by SIGSTOP is resumed so that it can save."""
    process = supervised("orderly", grace_seconds=20)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    processes_with(canary)["rank 0"].suspend()
    process.terminate()
    process.communicate(timeout=30)
    assert (tmp_path / "saved.0").exists()


def test_ranks_are_killed_after_grace_period(supervised, canary: str, tmp_path: Path):
    """Ranks that ignore the stop request are killed after the grace period."""
    process = supervised("deaf", grace_seconds=2)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    started = time.monotonic()
    process.terminate()
    process.communicate(timeout=30)
    assert time.monotonic() - started >= 2
    assert not processes_with(canary)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_skips_grace_period(supervised, canary: str, tmp_path: Path, second: int):
    """A second signal skips the grace period."""
    process = supervised("deaf", grace_seconds=3600)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(second)
    process.wait(timeout=120)
    wait_for(lambda: not processes_with(canary), seconds=10)


def test_interrupt_without_handlers_ends_ranks(stub_launch, canary: str, tmp_path: Path):
    """Without signal handlers, Ctrl-C raises KeyboardInterrupt and ends the ranks."""

    def interrupt() -> None:
        wait_for(lambda: are_up(tmp_path), seconds=30)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(stub_launch("work"), tmp_path)
    assert not processes_with(canary)
