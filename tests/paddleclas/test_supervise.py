"""Ranks that fail or hang end with the right words: which rank was first, how, why, and what to do."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from resnet50_pipeline.events import AnyEvent, EventWriter, WarningRaised
from resnet50_pipeline.exceptions import ImageDecodeError, NonFiniteLossError, RankFailedError
from resnet50_pipeline.paddleclas.failure import describe_failure
from resnet50_pipeline.paddleclas.heartbeats import HeartbeatWatch
from resnet50_pipeline.paddleclas.launch import LaunchCommand
from resnet50_pipeline.paddleclas.processes import RankEnd
from resnet50_pipeline.paddleclas.supervise import run_program, run_ranks
from resnet50_pipeline.training_dir import heartbeat_path
from stub_ranks import run

slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("what", ["killed", "killed and missed"])
def test_killed_rank_is_named_with_its_signal(stub_launch, tmp_path: Path, what: str):
    """Within seconds of a SIGKILL of rank 1: rank 1, SIGKILL, its log and what it mostly means.

    Rank 0, which fails because of it and which the launcher names first, is not blamed.
    """
    started = time.monotonic()
    with pytest.raises(RankFailedError, match=r"^rank 1 ended with signal SIGKILL") as caught:
        run(stub_launch(what), tmp_path)
    assert time.monotonic() - started < 20
    assert "workerlog.1" in str(caught.value)
    assert "for want of memory" in str(caught.value)
    assert "training.batch_size_per_rank" in str(caught.value)


@slow
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("crash", r"rank 1 ended with exit code 1; the end of \S+workerlog\.1:\n[^\0]*RuntimeError: a bug"),
        ("greedy", r"rank 1 ended with exit code 1: the machine's memory is exhausted: lower training\.batch_size"),
        ("bus error", r"rank 1 ended with signal SIGBUS: shared memory \(/dev/shm\).* is too small: .*--shm-size"),
        ("asked by a stranger", r"rank 1 ended with signal SIGTERM"),
    ],
)
def test_end_of_a_rank_is_explained(stub_launch, tmp_path: Path, what: str, message: str):
    """A bug shows its traceback; want of memory, of shared memory too, names itself and the setting."""
    with pytest.raises(RankFailedError, match=message):
        run(stub_launch(what), tmp_path)


@slow
def test_error_of_a_rank_comes_back_as_its_own_class(stub_launch, tmp_path: Path):
    """What a rank says of itself is what the caller catches."""
    with pytest.raises(NonFiniteLossError, match="nan at step 3"):
        run(stub_launch("error"), tmp_path)


@slow
def test_cause_wins_over_its_effect_on_other_ranks(stub_launch, tmp_path: Path):
    """Where rank 0 breaks down because rank 1 had found a bad image, the error is the bad image."""
    with pytest.raises(ImageDecodeError, match=r"a\.JPEG"):
        run(stub_launch("cause and effect"), tmp_path)


@slow
def test_hanging_rank_is_named(stub_launch, tmp_path: Path):
    """A stopped rank is found by its silent heartbeat, said to be stopped, and ended."""
    with pytest.raises(RankFailedError, match=r"rank 1 hangs \(it is stopped, as by SIGSTOP\): no step for \d+ s"):
        run(stub_launch("stopped"), tmp_path, hang_timeout_seconds=12.0)


@slow
def test_hanging_rank_shows_where_it_is(stub_launch, tmp_path: Path):
    """A rank that waits for ever writes its stack before it is ended, and the error shows it."""
    with pytest.raises(RankFailedError, match=r"rank 1 hangs: [^\0]*in wait_in_a_bug\n"):
        run(stub_launch("stuck"), tmp_path, hang_timeout_seconds=12.0)


@slow
def test_rank_that_hangs_before_its_first_step_is_named(stub_launch, tmp_path: Path):
    """A rank that never gives a sign of life is found too, counted from the start."""
    with pytest.raises(RankFailedError, match="rank 1 hangs"):
        run(stub_launch("mute"), tmp_path, hang_timeout_seconds=12.0)


@slow
def test_good_ranks_return_and_events_are_handed_on(stub_launch, tmp_path: Path):
    """Events of this run reach the caller once; those of an earlier one do not."""
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
def test_check_ends_the_ranks(stub_launch, tmp_path: Path):
    """What the caller's check raises, as for news of another machine, ends the ranks and comes through."""

    def check() -> None:
        if (tmp_path / "up.1").exists():
            raise RankFailedError("machine 1 failed")

    with pytest.raises(RankFailedError, match="machine 1 failed"):
        run_ranks(stub_launch("work"), tmp_path, tmp_path / "log", 60.0, ranks=2, check=check)


def test_program_without_launcher_reports_too(tmp_path: Path):
    """The export's failure names the end of its log."""
    with pytest.raises(RankFailedError, match=r"ended with exit code 1[^\0]*no module"):
        program = "raise SystemExit('no module')"
        run_program([sys.executable, "-c", program], dict(os.environ), tmp_path / "export.log", 60.0)


def test_program_without_launcher_cannot_hang(tmp_path: Path):
    """One that does not end is ended after the timeout, with the setting that says how long that is."""
    started = time.monotonic()
    with pytest.raises(RankFailedError, match=r"did not end within 1 s \(training\.launch\.hang_timeout_seconds\)"):
        run_program([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), tmp_path / "log", 1.0)
    assert time.monotonic() - started < 15


def test_silence_is_timed_by_changes_and_not_by_clocks(tmp_path: Path):
    """A heartbeat of a machine whose clock is an hour behind is a heartbeat, and standing still is silence."""
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
        ("", -9, 1, "the kernel ended it for want of memory"),
        ("", -9, None, "most often it is the kernel, for want of memory"),
        ("ResourceExhaustedError: \n\nOut of memory error on GPU 0.", 1, 0, "the device's memory is exhausted"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", -6, 0, "the machine's memory is exhausted"),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/paddle_1'", 1, 0, "num_workers=0"),
        ("[Hint: 'errno' not to be subject to EADDRINUSE] Address already in use", 1, 0, "training.launch.master"),
        ("", 143, 0, "something outside asked it to stop"),
    ],
)
def test_causes_are_named_with_the_setting(tmp_path: Path, log: str, exit_code: int, oom_kills, message: str):
    """What the system says in a rank's log, or by its signal, becomes the cause and the next step."""
    (tmp_path / "workerlog.0").write_text(log)
    error = describe_failure(1, tmp_path, RankEnd(3, 0, exit_code), oom_kills=oom_kills)
    assert str(error).startswith("rank 3 ended with ")
    assert message in str(error)


def test_launcher_counts_by_place_and_the_error_by_rank(tmp_path: Path):
    """Where only the launcher saw the end, its "rank 0" is the first of this machine: rank 4 of all, and its log."""
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
    ],
)
def test_a_cause_that_only_the_launcher_saw_wins_over_an_effect(tmp_path: Path, seen: RankEnd, named, expected: str):
    """The launcher has asked how the killed rank ended, so only the one that missed it was seen; never the reverse."""
    rank, code = named
    (tmp_path / "launcher.log").write_text(f"Container rank {rank} status failed cmd ['python'] code {code} log x\n")
    error = str(describe_failure(1, tmp_path, seen))
    assert error.startswith(expected)
    assert str(tmp_path / "workerlog.1") in error


def test_a_log_that_does_not_stay_is_quoted_and_not_named(tmp_path: Path):
    """Evaluation and export work in folders that are gone when the user reads the error."""
    (tmp_path / "launcher.log").write_text("last words\n")
    (tmp_path / "workerlog.0").write_text("ImageDecodeError: a.jpg: is empty\n")
    ends = RankEnd(0, 0, 1), None
    for end in ends:
        assert str(tmp_path) in str(describe_failure(1, tmp_path, end))
        assert str(tmp_path) not in str(describe_failure(1, tmp_path, end, log_stays=False))
    (tmp_path / "workerlog.0").write_text("rank's words\n")
    for end, words in zip(ends, ("rank's words", "last words"), strict=True):
        error = str(describe_failure(1, tmp_path, end, log_stays=False))
        assert words in error
        assert str(tmp_path) not in error


def test_a_run_that_takes_the_place_of_another_is_read_from_its_first_event(tmp_path: Path):
    """`kedro join` comes first: machine 0 moves the finished run aside, and a new file grows where the old one was."""
    old, new = tmp_path / "events.jsonl", tmp_path / "new.jsonl"
    for path, words in ((old, ["of the run before"]), (new, ["first, and longer than the old file was", "second"])):
        writer = EventWriter(path)
        for message in words:
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
        "first, and longer than the old file was",
        "second",
    ]
