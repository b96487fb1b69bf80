"""Ranks that fail, hang or are interrupted end with the right words and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from resnet50_pipeline.events import EventWriter, WarningRaised
from resnet50_pipeline.exceptions import ImageDecodeError, NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.launch import LaunchCommand
from resnet50_pipeline.paddleclas.supervise import run_program, run_ranks

pytestmark = pytest.mark.slow

# A rank that meets nobody: what is tested is who watches it. `canary` makes its processes easy to find.
RANK = """
import os, pathlib, signal, sys, time
what, folder, canary = sys.argv[1:]
rank = os.environ["PADDLE_TRAINER_ID"]
beat = pathlib.Path(folder, "heartbeat." + rank)
if what == "mute" and rank == "1":
    time.sleep(60)
beat.touch()
print("rank", rank, "is up", flush=True)
if rank == "1":
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "error":
        print("NonFiniteLossError: the loss is nan at step 3", file=sys.stderr, flush=True)
        sys.exit(1)
    if what == "cause and effect":
        print("ImageDecodeError: a.JPEG: no image", file=sys.stderr, flush=True)
        time.sleep(1)
        sys.exit(1)
    if what == "crash":
        raise RuntimeError("a bug")
    if what == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
if what == "cause and effect":
    time.sleep(0.5)
    raise RuntimeError("TIMEOUT self_rank = 0 pair_rank = 1")
if what == "good":
    sys.exit(0)
while True:
    time.sleep(0.2)
    beat.touch()
"""


@pytest.fixture
def launch(tmp_path: Path):
    """Return (command for two ranks that do `what`, canary)."""
    program = tmp_path / "rank.py"
    program.write_text(textwrap.dedent(RANK))
    canary = f"canary-{os.getpid()}-{tmp_path.name}"

    def build(what: str) -> LaunchCommand:
        arguments = [sys.executable, "-u", "-m", "paddle.distributed.launch", "--nproc_per_node=2"]
        arguments += [f"--log_dir={tmp_path / 'log'}", str(program), what, str(tmp_path), canary]
        return LaunchCommand(tuple(arguments), {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})

    yield build
    assert not processes_with(canary), "ranks or launcher are left"


def processes_with(canary: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if canary in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def run(command: LaunchCommand, folder: Path, hang_timeout_seconds: float = 60.0) -> None:
    run_ranks(command, folder, folder / "log", hang_timeout_seconds, ranks=2)


def test_killed_rank_is_named_with_its_signal(launch, tmp_path: Path):
    """Within 10 s of a SIGKILL of rank 1, the error says rank 1, SIGKILL and its log; rank 0 is ended."""
    started = time.monotonic()
    with pytest.raises(RankFailedError, match=r"rank 1 ended with signal SIGKILL") as caught:
        run(launch("killed"), tmp_path)
    assert time.monotonic() - started < 15
    assert "workerlog.1" in str(caught.value)


def test_error_of_a_rank_comes_back_as_its_own_class(launch, tmp_path: Path):
    """What a rank says of itself is what the caller catches."""
    with pytest.raises(NonFiniteLossError, match="nan at step 3"):
        run(launch("error"), tmp_path)


def test_cause_wins_over_its_effect_on_other_ranks(launch, tmp_path: Path):
    """Where rank 0 breaks down because rank 1 had found a bad image, the error is the bad image."""
    with pytest.raises(ImageDecodeError, match=r"a\.JPEG"):
        run(launch("cause and effect"), tmp_path)


def test_crash_shows_the_end_of_the_log(launch, tmp_path: Path):
    """A bug in a rank shows its traceback, not only an exit code."""
    with pytest.raises(RankFailedError, match="RuntimeError: a bug"):
        run(launch("crash"), tmp_path)


def test_hanging_rank_is_named(launch, tmp_path: Path):
    """A stopped rank is found by its silent heartbeat, and even a stopped process is ended."""
    with pytest.raises(RankFailedError, match="rank 1 hangs"):
        run(launch("stopped"), tmp_path, hang_timeout_seconds=3.0)


def test_rank_that_hangs_before_its_first_step_is_named(launch, tmp_path: Path):
    """A rank that never gives a sign of life is found too, counted from the start."""
    with pytest.raises(RankFailedError, match="rank 1 hangs"):
        run(launch("mute"), tmp_path, hang_timeout_seconds=4.0)


def test_good_ranks_return_and_events_are_handed_on(launch, tmp_path: Path):
    """Events of this run reach the caller once; those of an earlier one do not."""
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write(WarningRaised(message="of an earlier run"))
    seen: list[str] = []
    threading.Timer(0.5, lambda: writer.write(WarningRaised(message="of this run"))).start()
    run_ranks(
        launch("good"), tmp_path, tmp_path / "log", 60.0, ranks=2, on_event=lambda event: seen.append(event.message)
    )
    assert seen == ["of this run"]


def test_interrupt_ends_all_ranks(launch, tmp_path: Path):
    """Ctrl-C while ranks run ends them before it goes on up."""
    threading.Timer(4.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run(launch("work"), tmp_path)


def test_program_without_launcher_reports_too(tmp_path: Path):
    """The export's failure names the end of its log."""
    with pytest.raises(RankFailedError, match="no module"):
        program = "raise SystemExit('no module')"
        run_program([sys.executable, "-c", program], dict(os.environ), tmp_path / "export.log")


def test_ranks_end_when_their_supervisor_is_killed(tmp_path: Path):
    """SIGKILL of the process that started the ranks leaves none of them after 10 s."""
    program = tmp_path / "rank.py"
    program.write_text(
        "import sys, time\n"
        "from resnet50_pipeline.trainer.heartbeat import exit_with_parent\n"
        "exit_with_parent()\n"
        "time.sleep(120)\n"
    )
    canary = f"canary-{os.getpid()}-{tmp_path.name}"
    supervisor = textwrap.dedent(
        f"""
        import os, pathlib, sys
        from resnet50_pipeline.paddleclas.launch import SUPERVISOR_PID, LaunchCommand
        from resnet50_pipeline.paddleclas.supervise import run_ranks
        folder = pathlib.Path({str(tmp_path)!r})
        arguments = [sys.executable, "-u", "-m", "paddle.distributed.launch", "--nproc_per_node=2"]
        arguments += ["--log_dir=" + str(folder / "log"), str(folder / "rank.py"), {canary!r}]
        environment = dict(PATH=os.environ["PATH"], HOME=str(folder)) | {{SUPERVISOR_PID: str(os.getpid())}}
        run_ranks(LaunchCommand(tuple(arguments), environment), folder, folder / "log", 60.0, ranks=2)
        """
    )
    with subprocess.Popen([sys.executable, "-c", supervisor]) as process:
        wait_for(lambda: len(processes_with(canary)) == 3, seconds=20)
        process.kill()
    wait_for(lambda: not processes_with(canary), seconds=10)


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
