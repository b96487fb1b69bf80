"""Whoever is killed, in whatever moment and state, no process of a run is left."""

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
    from resnet50_pipeline.interruption import signals_interrupt
    from resnet50_pipeline.paddleclas.launch import LaunchCommand
    from resnet50_pipeline.paddleclas.supervise import run_ranks
    folder = pathlib.Path(sys.argv[1])
    arguments, environment, grace = json.loads((folder / "command.json").read_text())
    with signals_interrupt():
        run_ranks(LaunchCommand(arguments, environment), folder, folder / "log", 60.0, ranks=2,
                  stop_grace_seconds=grace)
"""


@pytest.fixture
def supervised(stub_launch, tmp_path: Path):
    """A function that starts a process of its own which runs ranks that do `what`, and returns it."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str, grace_seconds: float = 0.0) -> subprocess.Popen[str]:
        command = stub_launch(what)
        words = json.dumps([list(command.arguments), dict(command.environment), grace_seconds])
        (tmp_path / "command.json").write_text(words)
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
def test_nothing_is_left_when_the_supervisor_is_killed(supervised, canary: str, tmp_path: Path, moment: str):
    """SIGKILL of the process that started the ranks leaves none of them after 10 s, nor launcher nor guard.

    Whether they train, are starting, or cannot move.
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
def test_nothing_is_left_when_what_is_between_is_killed(supervised, canary: str, tmp_path: Path, victim: str):
    """SIGKILL of launcher or guard ends the ranks, and the supervisor with an error that says so."""
    process = supervised("work")
    wait_for(lambda: are_up(tmp_path), seconds=30)
    processes_with(canary)[victim].kill()
    _, words = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "RankFailedError: the launcher ended with signal SIGKILL" in words
    assert not processes_with(canary)


def test_launcher_killed_before_the_ranks_are_up(stub_launch, canary: str, tmp_path: Path):
    """A launcher killed while it starts ranks does not leave one behind that trains alone."""

    def kill() -> None:
        wait_for(lambda: "rank 0" in processes_with(canary), seconds=30)
        processes_with(canary)["launcher"].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RankFailedError, match="signal SIGKILL"):
        run(stub_launch("work"), tmp_path)
    killer.join()
    assert not processes_with(canary)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_the_ranks_finish(supervised, canary: str, tmp_path: Path, number: int):
    """Asked to stop, the supervisor asks the ranks and waits until the slowest has saved.

    The launcher, left to itself, would have killed it when the first was done.
    """
    process = supervised("orderly", grace_seconds=20)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    process.send_signal(number)
    _, words = process.communicate(timeout=30)
    assert f"RunInterruptedError: stopped by {signal.Signals(number).name}" in words
    assert (tmp_path / "saved.0").exists()
    assert (tmp_path / "saved.1").exists()
    assert not processes_with(canary)


def test_a_stopped_rank_is_woken_to_stop(supervised, canary: str, tmp_path: Path):
    """A rank that stands still (SIGSTOP) is let go on, so that it can save."""
    process = supervised("orderly", grace_seconds=20)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    processes_with(canary)["rank 0"].suspend()
    process.terminate()
    process.communicate(timeout=30)
    assert (tmp_path / "saved.0").exists()


def test_grace_has_an_end(supervised, canary: str, tmp_path: Path):
    """Ranks that do not listen are killed when the time is over."""
    process = supervised("deaf", grace_seconds=2)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    started = time.monotonic()
    process.terminate()
    process.communicate(timeout=30)
    assert 2 <= time.monotonic() - started < 12
    assert not processes_with(canary)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait(supervised, canary: str, tmp_path: Path, second: int):
    """Who asks twice means it: nothing waits for ranks that do not listen."""
    process = supervised("deaf", grace_seconds=60)
    wait_for(lambda: are_up(tmp_path), seconds=30)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(second)
    process.wait(timeout=30)
    assert time.monotonic() - started < 15
    wait_for(lambda: not processes_with(canary), seconds=10)


def test_interrupt_without_handlers_ends_all_ranks(stub_launch, canary: str, tmp_path: Path):
    """Used as a library, Ctrl-C is Python's own KeyboardInterrupt, and ends the ranks on its way up."""

    def interrupt() -> None:
        wait_for(lambda: are_up(tmp_path), seconds=30)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(stub_launch("work"), tmp_path)
    assert not processes_with(canary)
