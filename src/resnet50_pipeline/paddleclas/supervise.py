"""Runs ranks to their end: watches the launcher and the heartbeats, and leaves no process behind."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from resnet50_pipeline import exceptions
from resnet50_pipeline.events import AnyEvent, read_events
from resnet50_pipeline.exceptions import PipelineError, RankFailedError
from resnet50_pipeline.interruption import raise_if_interrupted
from resnet50_pipeline.paddleclas.launch import LaunchCommand
from resnet50_pipeline.training_dir import events_path, heartbeat_path, heartbeat_paths

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_TERMINATE_SECONDS = 5.0
_TAIL_LINES = 12
_ERROR_LINE = re.compile(r"^(\w+Error): (.*)$")
_FAILED_CONTAINER = re.compile(r"Container rank (\d+) status failed .*? code (-?\d+)")


def run_ranks(
    command: LaunchCommand,
    output_dir: Path,
    log_dir: Path,
    hang_timeout_seconds: float,
    *,
    ranks: int,
    on_event: Callable[[AnyEvent], None] = lambda _event: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Start the ranks, hand every new event of `output_dir/events.jsonl` to `on_event`, and return when all are done.

    Whatever ends this call (a failed or hanging rank, an exception, Ctrl-C) also ends every process it started. `check`
    is called at every look; what it raises ends the ranks and this call.

    Raises:
        RankFailedError: a rank or the launcher ended badly or hung; says which, how, and the end of its log.
        PipelineError: the error that a rank itself reported, by its own class.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    launcher_log = log_dir / "launcher.log"
    events_file = events_path(output_dir)
    position = events_file.stat().st_size if events_file.exists() else 0
    for stale in (*log_dir.glob("workerlog.*"), *heartbeat_paths(output_dir)):
        stale.unlink()
    started = time.time()
    with launcher_log.open("wb") as log, _started(command, log.fileno()) as launcher:
        while True:
            exit_code = launcher.poll()
            events, position = read_events(events_file, position)
            for event in events:
                on_event(event)
            if exit_code is not None and not events:
                break
            # A runner in threads leaves the signal to the main thread, which waits for this one.
            raise_if_interrupted()
            check()
            beats = {rank: _last_beat(output_dir, rank, started) for rank in range(ranks)}
            _raise_where_hanging(beats, log_dir, hang_timeout_seconds)
            if exit_code is None:
                time.sleep(_POLL_SECONDS)
    if exit_code != 0:
        raise _failure(exit_code, log_dir)


def run_program(command: list[str], environment: dict[str, str], log_path: Path) -> None:
    """Run one process without a launcher, as the export; its output goes to `log_path`.

    Raises:
        RankFailedError, PipelineError: as `run_ranks`.
    """
    with log_path.open("wb") as log, _started(LaunchCommand(tuple(command), environment), log.fileno()) as process:
        exit_code = process.wait()
    if exit_code != 0:
        raise _reported_error(log_path) or RankFailedError(
            f"{' '.join(command[-1:])} ended with {_how(exit_code)}; the end of its log:\n{_tail(log_path)}"
        )


@contextlib.contextmanager
def _started(command: LaunchCommand, output: int) -> Iterator[subprocess.Popen[bytes]]:
    # Its own session: Ctrl-C in the terminal reaches Kedro alone, which then ends the ranks in order.
    process = subprocess.Popen(
        command.arguments,
        env=dict(command.environment),
        cwd=command.working_dir,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end_process_tree(process)


def _end_process_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and all its descendants: SIGTERM, and SIGKILL for what is left after some seconds.

    The launcher puts each rank into a session of its own, so one signal to its group would miss them.
    """
    try:
        root = psutil.Process(process.pid)
        everybody = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        everybody = []
    for member in everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            # A stopped process does not see SIGTERM until it goes on.
            member.send_signal(signal.SIGTERM)
            member.send_signal(signal.SIGCONT)
    _, alive = psutil.wait_procs(everybody, timeout=_TERMINATE_SECONDS)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=_TERMINATE_SECONDS)
    process.wait()


def _last_beat(output_dir: Path, rank: int, started: float) -> float:
    """Return when a rank last said that it lives, in Unix seconds; the start, as long as it has not."""
    try:
        return max(started, heartbeat_path(output_dir, rank).stat().st_mtime)
    except FileNotFoundError:
        return started


def _raise_where_hanging(beats: Mapping[int, float], log_dir: Path, timeout_seconds: float) -> None:
    rank = min(beats, key=lambda one: beats[one])
    silent_seconds = time.time() - beats[rank]
    if silent_seconds > timeout_seconds:
        log = log_dir / f"workerlog.{rank}"
        raise RankFailedError(
            f"rank {rank} hangs: no step for {silent_seconds:.0f} s (training.launch.hang_timeout_seconds is "
            f"{timeout_seconds:g}); all ranks were ended. Its log: {log}\n{_tail(log)}"
        )


def _failure(exit_code: int, log_dir: Path) -> PipelineError:
    """Return the error of the rank that failed first, from its own words or from the launcher's."""
    launcher_log = log_dir / "launcher.log"
    failed = _FAILED_CONTAINER.search(_text(launcher_log))
    if failed is None:
        return RankFailedError(
            f"the launcher ended with {_how(exit_code)}; the end of {launcher_log}:\n{_tail(launcher_log)}"
        )
    rank, code = failed.groups()
    log = log_dir / f"workerlog.{rank}"
    # The launcher may name a rank that failed because another one, which knows the cause, had gone.
    for candidate in (log, *sorted(log_dir.glob("workerlog.*"))):
        if reported := _reported_error(candidate):
            return reported
    return RankFailedError(f"rank {rank} ended with {_how(int(code))}; the end of {log}:\n{_tail(log)}")


def _reported_error(log: Path) -> PipelineError | None:
    """Return the PipelineError that a trainer program printed last, as an instance of its class."""
    lines = _text(log).splitlines()
    for number in range(len(lines) - 1, -1, -1):
        match = _ERROR_LINE.match(lines[number])
        if match is None:
            continue
        kind = getattr(exceptions, match[1], None)
        if not (isinstance(kind, type) and issubclass(kind, PipelineError)):
            return None
        message = "\n".join([match[2], *lines[number + 1 :], f"log: {log}"])
        error = kind.__new__(kind)
        Exception.__init__(error, message)
        return error
    return None


def _how(exit_code: int) -> str:
    if exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def _tail(log: Path) -> str:
    return "\n".join(_text(log).splitlines()[-_TAIL_LINES:])


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
