"""Explains failures from the ranks' logs: which rank failed first, why, and what to do."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from resnet50_pipeline import exceptions
from resnet50_pipeline.exceptions import PipelineError, RankFailedError
from resnet50_pipeline.paddleclas.launch.processes import RankEnd

_TAIL_LINES = 12
_SEARCHED_LINES = 100  # a traceback can follow the messages of DataLoader workers
_ERROR_LINE = re.compile(r"^(\w+Error): (.*)$")
_STOPPED = re.compile(r"stopped by (SIG\w+)")  # RunInterruptedError
_FAILED_CONTAINER = re.compile(r"Container rank (\d+) status failed .*? code (-?\d+)")
# `guard.py` returns these exit codes if a signal stops it.
_STOPPED_GUARD = MappingProxyType({128 + number: number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)})
# Signals that may not recur after a restart. They come from the out-of-memory killer, or from a fault in a library or
# the machine. A rank that has lost its peer ends with SIGABRT, and the launcher may report only this rank.
_CRASHES = frozenset(-number for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT))
_LESS_MEMORY = "lower training.batch_size_per_rank"
_SHARED_MEMORY = (
    "shared memory (/dev/shm), which DataLoader workers use for batches, is too small: enlarge it "
    "(docker run --shm-size=8g; Kubernetes: an emptyDir with medium: Memory), or load images in the rank itself with "
    "training.loader.num_workers=0"
)
# Patterns in a log, and the explanation for the user. The first match is shown.
_CAUSES = (
    (re.compile(r"insufficient shared memory|Bus error|SIGBUS|/dev/shm|No space left on device.*shm"), _SHARED_MEMORY),
    (
        re.compile(r"ResourceExhaustedError|Out of memory error on GPU|out of memory on device", re.IGNORECASE),
        f"the device is out of memory: {_LESS_MEMORY}, or stop other programs that use the card",
    ),
    (
        re.compile(r"^MemoryError|std::bad_alloc|Cannot allocate memory", re.MULTILINE),
        f"the machine is out of memory: {_LESS_MEMORY} or training.loader.num_workers",
    ),
    (
        re.compile(r"Address already in use|EADDRINUSE"),
        "another program is using the port: start the run again to get a new port; with several machines, choose "
        "another port in training.launch.master",
    ),
)


def describe_failure(
    exit_code: int,
    log_dir: Path,
    first: RankEnd | None = None,
    *,
    ranks: Mapping[int, int] = MappingProxyType({}),
    oom_kills: int | None = None,
    log_stays: bool = True,
) -> PipelineError:
    """Return an exception for the rank that failed first, based on the logs and exit codes.

    Args:
        exit_code: exit code of the launcher, negative for a signal.
        log_dir: folder of `workerlog.<local rank>` and `launcher.log`.
        first: first rank seen to fail, or None.
        ranks: maps the local ranks in the launcher's log to global ranks. A missing local rank maps to itself.
        oom_kills: number of processes that the kernel killed during the run because memory ran out, or None if unknown.
        log_stays: whether the logs are kept after the run. If not, the message does not mention them.
    """
    launcher_log = log_dir / "launcher.log"
    if failed := _FAILED_CONTAINER.search(_text(launcher_log)):
        local_rank = int(failed[1])
        named = RankEnd(ranks.get(local_rank, local_rank), local_rank, int(failed[2]))
        # Once the launcher has reaped a rank, only the launcher's log contains the exit code. `first` may then be a
        # rank that failed only because it lost its peer.
        is_same_without_code = first is not None and first.rank == named.rank and first.exit_code is None
        if first is None or is_same_without_code or (first.is_effect and not named.is_effect):
            first = named
    # If the guard or the launcher receives a signal, the guard kills the ranks, and a rank may appear to end first.
    was_killed = first is not None and first.exit_code in (None, -signal.SIGKILL)
    if was_killed and (exit_code in _STOPPED_GUARD or exit_code < 0):
        first = None
    own = [] if first is None else [log_dir / f"workerlog.{first.local_rank}"]
    # The launcher can report a rank that failed only because another rank failed. The other rank's log shows the cause.
    for candidate in (*own, *sorted(log_dir.glob("workerlog.*"))):
        if reported := reported_error(candidate, log_stays=log_stays):
            return reported
    if first is None:
        return RankFailedError(
            f"the launcher ended with {describe_exit(exit_code)}{_from_outside(exit_code)}; "
            f"last lines of {launcher_log if log_stays else 'its log'}:\n{tail(launcher_log)}",
            is_transient=exit_code in _CRASHES,
        )
    how = "" if first.exit_code is None else f" with {describe_exit(first.exit_code)}"
    return RankFailedError(
        f"rank {first.rank} ended{how}{_cause(first, own, oom_kills)}; "
        f"last lines of {own[0] if log_stays else 'its log'}:\n{tail(own[0])}",
        is_transient=first.exit_code in _CRASHES and _known_cause(log_dir.glob("workerlog.*")) is None,
    )


def reported_error(log: Path, *, log_stays: bool = True) -> PipelineError | None:
    """Return the PipelineError at the end of a trainer program's log, or None if there is none.

    The exception has the class named in the log.
    """
    lines = _text(log).splitlines()
    for number in range(len(lines) - 1, -1, -1):
        match = _ERROR_LINE.match(lines[number])
        if match is None:
            continue
        kind = getattr(exceptions, match[1], None)
        if not (isinstance(kind, type) and issubclass(kind, PipelineError)):
            return None
        message = "\n".join([match[2], *lines[number + 1 :], *([f"log: {log}"] if log_stays else [])])
        error = kind.__new__(kind)
        Exception.__init__(error, message)
        if stopped := _STOPPED.match(match[2]):
            error.exit_code = 128 + signal.Signals[stopped[1]]
        return error
    return None


def describe_exit(exit_code: int) -> str:
    """Describe an exit code, such as "exit code 3" or "signal SIGKILL"."""
    if exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log."""
    return "\n".join(_text(log).splitlines()[-lines:])


def count_oom_kills() -> int | None:
    """Return the number of processes killed by the kernel's out-of-memory killer since boot, or None if unknown."""
    found = re.search(r"^oom_kill (\d+)$", _text(Path("/proc/vmstat")), re.MULTILINE)
    return None if found is None else int(found[1])


def _cause(first: RankEnd, logs: Iterable[Path], oom_kills: int | None) -> str:
    if (cause := _known_cause(logs)) is not None:
        return f": {cause}"
    if first.exit_code == -signal.SIGBUS:
        return f": {_SHARED_MEMORY}"
    if first.exit_code == -signal.SIGKILL:
        advice = f"{_LESS_MEMORY} or training.loader.num_workers"
        if oom_kills:
            return f": the kernel killed the process because the machine ran out of memory: {advice}"
        return (
            "; this signal usually means that the kernel killed the process because memory ran out (check `dmesg`). "
            f"If so, {advice}"
        )
    for number in (signal.SIGTERM, signal.SIGHUP):
        if first.exit_code == 128 + number:
            return f": another process asked this process to stop ({number.name})"
    return ""


def _known_cause(logs: Iterable[Path]) -> str | None:
    """Return the first explanation in `_CAUSES` that matches the end of the logs. A restart would not help."""
    said = "\n".join(tail(log, _SEARCHED_LINES) for log in logs)
    return next((cause for pattern, cause in _CAUSES if pattern.search(said)), None)


def _from_outside(exit_code: int) -> str:
    if exit_code in _STOPPED_GUARD:
        return f" (another process sent {_STOPPED_GUARD[exit_code].name} to the guard process of this run)"
    # Paddle's launcher uses the signal number as its exit code.
    if exit_code in (signal.SIGTERM, signal.SIGINT):
        return f" (another process sent it {signal.Signals(exit_code).name})"
    return ""


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
