"""Errors about failed and hung ranks explain which rank failed first, how, why, and what to do."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from resnet50_pipeline.events import AnyEvent, EventWriter, WarningRaised
from resnet50_pipeline.exceptions import ImageDecodeError, NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.paddleclas.launch.failure import describe_failure
from resnet50_pipeline.paddleclas.launch.heartbeats import HeartbeatWatch
from resnet50_pipeline.paddleclas.launch.processes import RankEnd, started
from resnet50_pipeline.paddleclas.launch.supervise import run_program, run_ranks
from resnet50_pipeline.training_dir import heartbeat_path
from stub_ranks import run

slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("what", ["killed", "killed and missed"])
def test_killed_rank_is_named_with_its_signal(stub_launch, tmp_path: Path, what: str):
    """If rank 1 is killed, the error names rank 1, SIGKILL, the rank's log and the likely cause.

    The error does not blame rank 0, which fails as a consequence, although the launcher names it first.
    """
    with pytest.raises(RankFailedError, match=r"^rank 1 ended with signal SIGKILL") as caught:
        run(stub_launch(what), tmp_path)
    assert "workerlog.1" in str(caught.value)
    assert "training.batch_size_per_rank" in str(caught.value)


@slow
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("crash", r"rank 1 ended with exit code 1; .*workerlog\.1:\n[^\0]*RuntimeError: a bug"),
        ("greedy", r"rank 1 ended with exit code 1: the machine is out of memory: lower training\.batch_size"),
        ("bus error", r"rank 1 ended with signal SIGBUS: shared memory \(/dev/shm\).* is too small: .*--shm-size"),
        ("asked by a stranger", r"rank 1 ended with signal SIGTERM"),
    ],
)
def test_failure_of_rank_is_explained(stub_launch, tmp_path: Path, what: str, message: str):
    """The error shows the traceback of a bug, or states which memory is exhausted and which setting to change."""
    with pytest.raises(RankFailedError, match=message):
        run(stub_launch(what), tmp_path)


@slow
def test_rank_error_keeps_its_class(stub_launch, tmp_path: Path):
    """The caller can catch the error by the class that the rank reported."""
    with pytest.raises(NonFiniteLossError, match="nan at step 3"):
        run(stub_launch("error"), tmp_path)


@slow
def test_cause_is_reported_before_its_effects(stub_launch, tmp_path: Path):
    """If rank 0 fails because rank 1 found a bad image, the error reports the bad image."""
    with pytest.raises(ImageDecodeError, match=r"a\.JPEG"):
        run(stub_launch("cause and effect"), tmp_path)


@slow
def test_hanging_rank_is_named(stub_launch, tmp_path: Path):
    """A stopped rank is detected by its heartbeat, reported as stopped, and killed."""
    with pytest.raises(RankFailedError, match=r"rank 1 hangs .*SIGSTOP.* \d+ s"):
        run(stub_launch("stopped"), tmp_path, hang_timeout_seconds=12.0)


@slow
def test_hanging_rank_shows_its_stack(stub_launch, tmp_path: Path):
    """A rank that waits forever writes its stack, and the error shows it."""
    with pytest.raises(RankFailedError, match=r"rank 1 hangs: [^\0]*in wait_in_a_bug\n"):
        run(stub_launch("stuck"), tmp_path, hang_timeout_seconds=12.0)


@slow
def test_rank_that_hangs_before_its_first_step_is_named(stub_launch, tmp_path: Path):
    """A rank that never sends a heartbeat is detected. Its silence counts from the start of the run."""
    with pytest.raises(RankFailedError, match="rank 1 hangs"):
        run(stub_launch("mute"), tmp_path, hang_timeout_seconds=12.0)


@slow
def test_successful_ranks_pass_each_event_once(stub_launch, tmp_path: Path):
    """Each event of this run reaches the caller exactly once, and events of an earlier run never do."""
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write(WarningRaised(message="of an earlier run"))
    seen: list[str] = []
    threading.Timer(0.5, lambda: writer.write(WarningRaised(message="of this run"))).start()
    run_ranks(
        stub_launch("good"),
        tmp_path,
        tmp_path / "log",
        60.0,
        ranks=2,
        on_event=lambda event: seen.append(event.message),
    )
    assert seen == ["of this run"]


@slow
def test_exception_from_check_ends_ranks(stub_launch, tmp_path: Path):
    """An exception from the caller's check ends the ranks and propagates."""

    def check() -> None:
        if (tmp_path / "up.1").exists():
            raise RankFailedError("machine 1 failed")

    with pytest.raises(RankFailedError, match="machine 1 failed"):
        run_ranks(stub_launch("work"), tmp_path, tmp_path / "log", 60.0, ranks=2, check=check)


def test_program_without_launcher_shows_its_log(tmp_path: Path):
    """When a program without a launcher fails, the error shows the end of its log."""
    with pytest.raises(RankFailedError, match=r"ended with exit code 1[^\0]*no module"):
        program = "raise SystemExit('no module')"
        run_program([sys.executable, "-c", program], dict(os.environ), tmp_path / "export.log", 60.0)


def test_hanging_program_without_launcher_is_killed(tmp_path: Path):
    """A program that does not end is killed after the timeout, and the error mentions the setting."""
    with pytest.raises(RankFailedError, match=r"1 s \(training\.launch\.hang_timeout_seconds\)"):
        run_program([sys.executable, "-c", "import time; time.sleep(3600)"], dict(os.environ), tmp_path / "log", 1.0)


def test_heartbeats_count_by_change_not_clock(tmp_path: Path):
    """A changing heartbeat is accepted even if its clock is wrong; an unchanged one counts as silence."""
    now = 100.0
    watch = HeartbeatWatch(tmp_path, 10.0, clock=lambda: now)
    beats = [heartbeat_path(tmp_path, rank) for rank in (0, 1)]
    for beat in beats:
        beat.touch()
        os.utime(beat, (0, 0))
    for second in range(1, 30):
        now = 100.0 + second
        os.utime(beats[0], (second, second))
        silent = watch.silent_ranks(range(2))
        assert silent == ({1: second - 1.0} if second - 1 > 10 else {})


@pytest.mark.parametrize(
    ("log", "exit_code", "oom_kills", "message"),
    [
        ("", -9, 1, "the kernel killed the process"),
        ("", -9, None, "`dmesg`"),
        ("ResourceExhaustedError: \n\nOut of memory error on GPU 0.", 1, 0, "the device is out of memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", -6, 0, "the machine is out of memory"),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/paddle_1'", 1, 0, "num_workers=0"),
        ("[Hint: 'errno' not to be subject to EADDRINUSE] Address already in use", 1, 0, "training.launch.master"),
        ("", 143, 0, "SIGTERM"),
    ],
)
def test_cause_names_the_setting(tmp_path: Path, log: str, exit_code: int, oom_kills, message: str):
    """The reported cause and next step depend on system messages in the rank's log and on its signal."""
    (tmp_path / "workerlog.0").write_text(log)
    error = describe_failure(1, tmp_path, RankEnd(3, 0, exit_code), oom_kills=oom_kills)
    assert str(error).startswith("rank 3 ended with ")
    assert message in str(error)


def test_error_names_global_rank(tmp_path: Path):
    """The launcher's "rank 0" is a local rank; the error includes the global rank and its log."""
    (tmp_path / "launcher.log").write_text("Container rank 0 status failed cmd ['python'] code -9 log x\n")
    error = describe_failure(1, tmp_path, ranks={0: 4, 1: 5})
    assert str(error).startswith("rank 4 ended with signal SIGKILL")
    assert str(tmp_path / "workerlog.0") in str(error)


@pytest.mark.parametrize(
    ("seen", "named", "expected"),
    [
        (RankEnd(0, 0, -6), (1, -9), "rank 1 ended with signal SIGKILL"),
        (RankEnd(0, 0, 1), (1, -11), "rank 1 ended with signal SIGSEGV"),
        (RankEnd(1, 1, -9), (0, -6), "rank 1 ended with signal SIGKILL"),
        (RankEnd(1, 1, 3), (0, 1), "rank 1 ended with exit code 3"),
        (RankEnd(1, 1, None), (1, -9), "rank 1 ended with signal SIGKILL"),
    ],
)
def test_cause_in_launcher_log_is_reported_before_effects(tmp_path: Path, seen: RankEnd, named, expected: str):
    """A killed rank that only the launcher reported takes precedence over a rank that failed as a consequence."""
    rank, code = named
    (tmp_path / "launcher.log").write_text(f"Container rank {rank} status failed cmd ['python'] code {code} log x\n")
    error = str(describe_failure(1, tmp_path, seen))
    assert error.startswith(expected)
    assert str(tmp_path / "workerlog.1") in error


@pytest.mark.parametrize(
    ("exit_code", "log", "is_transient"),
    [
        (-9, "", True),
        (-6, "Read error [127.0.0.1]:65164: Connection reset by peer\n", True),
        (-6, "Out of memory error on GPU 0\n", False),
        (1, "Traceback (most recent call last):\n", False),
    ],
)
def test_lost_ranks_are_transient(tmp_path: Path, exit_code: int, log: str, is_transient: bool):
    """A rank that was killed or that lost its peer may be restarted. Exceptions and a full device would occur again."""
    (tmp_path / "workerlog.0").write_text(log)
    (tmp_path / "launcher.log").write_text(f"Container rank 0 status failed cmd ['python'] code {exit_code} log x\n")
    error = describe_failure(1, tmp_path)
    assert isinstance(error, RankFailedError)
    assert error.is_transient is is_transient


def test_end_of_rank_wakes_the_supervisor(tmp_path: Path):
    """The supervisor does not sleep until its next poll, because the launcher might read the exit code first."""
    rank = [sys.executable, "-c", "import time; time.sleep(1); exit(3)"]
    environment = {**os.environ, "PADDLE_TRAINER_ID": "0", "PADDLE_LOCAL_RANK": "0"}
    launcher = f"import subprocess, time; rank = subprocess.Popen({rank}, env={environment}); time.sleep(3600)"
    command = LaunchCommand((sys.executable, "-c", launcher), dict(os.environ))
    with (tmp_path / "log").open("wb") as log, started(command, log.fileno()) as processes:
        while not processes.ranks_were_seen:
            processes.watch(1)
        processes.wait(3600)
        processes.watch(1)
        assert processes.first_end == RankEnd(0, 0, 3)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("exit_code", [None, -signal.SIGKILL])
def test_signal_to_guard_is_reported_before_ranks_that_it_killed(tmp_path: Path, number: signal.Signals, exit_code):
    """If the guard receives a signal, the ranks that it kills are not blamed, even if they are seen to end first."""
    (tmp_path / "workerlog.0").write_text("rank 0 is up\n")
    error = str(describe_failure(128 + number, tmp_path, RankEnd(0, 0, exit_code)))
    assert f"exit code {128 + number}" in error
    assert number.name in error
    assert "rank 0 ended" not in error


def test_signal_to_launcher_is_reported_before_ranks_that_the_guard_killed(tmp_path: Path):
    """If the launcher is killed, the guard kills the ranks. The error names the launcher."""
    error = describe_failure(-signal.SIGKILL, tmp_path, RankEnd(0, 0, -signal.SIGKILL))
    assert str(error).startswith("the launcher ended with signal SIGKILL")


def test_temporary_log_is_quoted_without_path(tmp_path: Path):
    """Logs in temporary folders are quoted, but their paths are not shown."""
    (tmp_path / "launcher.log").write_text("launcher's end\n")
    (tmp_path / "workerlog.0").write_text("ImageDecodeError: a.jpg: is empty\n")
    ends = RankEnd(0, 0, 1), None
    for end in ends:
        assert str(tmp_path) in str(describe_failure(1, tmp_path, end))
        assert str(tmp_path) not in str(describe_failure(1, tmp_path, end, log_stays=False))
    (tmp_path / "workerlog.0").write_text("rank's end\n")
    for end, text in zip(ends, ("rank's end", "launcher's end"), strict=True):
        error = str(describe_failure(1, tmp_path, end, log_stays=False))
        assert text in error
        assert str(tmp_path) not in error


def test_replaced_event_file_is_read_from_start(tmp_path: Path):
    """If machine 0 replaces the event file of a finished run, `kedro join` reads the new file from its start."""
    old, new = tmp_path / "events.jsonl", tmp_path / "new.jsonl"
    for path, messages in ((old, ["of the previous run"]), (new, ["first, and longer than the old file", "second"])):
        writer = EventWriter(path)
        for message in messages:
            writer.write(WarningRaised(message=message))
        writer.close()
    code = (
        "import pathlib, sys, time\n"
        "old, new = map(pathlib.Path, sys.argv[1:])\n"
        "time.sleep(1); old.rename(old.with_name('moved.jsonl')); new.rename(old); time.sleep(1)\n"
    )
    command = LaunchCommand((sys.executable, "-c", code, str(old), str(new)), {"PATH": os.environ["PATH"]})
    seen: list[AnyEvent] = []
    run_ranks(command, tmp_path, tmp_path / "log", 60, ranks=2, watches_all=False, on_event=seen.append)
    assert [event.message for event in seen if isinstance(event, WarningRaised)] == [
        "first, and longer than the old file",
        "second",
    ]
