"""What went wrong in the ranks, found in their logs: which rank was first, why, and what to do about it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from resnet50_pipeline import exceptions
from resnet50_pipeline.exceptions import PipelineError, RankFailedError
from resnet50_pipeline.paddleclas.processes import RankEnd

_TAIL_LINES = 12
_SEARCHED_LINES = 100  # a traceback stands between what loader processes say and the end
_ERROR_LINE = re.compile(r"^(\w+Error): (.*)$")
_STOPPED = re.compile(r"stopped by (SIG\w+)")  # RunInterruptedError
_FAILED_CONTAINER = re.compile(r"Container rank (\d+) status failed .*? code (-?\d+)")
_LESS_MEMORY = "lower training.batch_size_per_rank"
_SHARED_MEMORY = (
    "shared memory (/dev/shm), through which loader processes hand over batches, is too small: enlarge it "
    "(docker run --shm-size=8g; Kubernetes: an emptyDir with medium: Memory), or load in the rank itself with "
    "training.loader.num_workers=0"
)
# What a log says, and what it means for the user; the first that fits is shown.
_CAUSES = (
    (re.compile(r"insufficient shared memory|Bus error|SIGBUS|/dev/shm|No space left on device.*shm"), _SHARED_MEMORY),
    (
        re.compile(r"ResourceExhaustedError|Out of memory error on GPU|out of memory on device", re.IGNORECASE),
        f"the device's memory is exhausted: {_LESS_MEMORY}, or end other programs that use the card",
    ),
    (
        re.compile(r"^MemoryError|std::bad_alloc|Cannot allocate memory", re.MULTILINE),
        f"the machine's memory is exhausted: {_LESS_MEMORY} or training.loader.num_workers",
    ),
    (
        re.compile(r"Address already in use|EADDRINUSE"),
        "another program took the port before the ranks could: start again, it will be another one; with more than "
        "one machine choose another port in training.launch.master",
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
    """Return the error of the rank that failed first, from its own words, the system's or the launcher's.

    Args:
        exit_code: the launcher's, negative for a signal.
        log_dir: of `workerlog.<local rank>` and `launcher.log`.
        first: the rank that was seen to end first.
        ranks: by the place on this machine, by which the launcher's log names them; the same where not given.
        oom_kills: how many processes the kernel has killed for want of memory meanwhile; None where it does not say.
        log_stays: whether the user will find the logs, so that it helps to name them.
    """
    launcher_log = log_dir / "launcher.log"
    if failed := _FAILED_CONTAINER.search(_text(launcher_log)):
        local_rank = int(failed[1])
        named = RankEnd(ranks.get(local_rank, local_rank), local_rank, int(failed[2]))
        # Once the launcher has asked how a rank ended nobody else can, and the one that missed it is seen first.
        if first is None or (first.is_effect and not named.is_effect):
            first = named
    own = [] if first is None else [log_dir / f"workerlog.{first.local_rank}"]
    # The launcher may name a rank that failed because another one, which knows the cause, had gone.
    for candidate in (*own, *sorted(log_dir.glob("workerlog.*"))):
        if reported := reported_error(candidate, log_stays=log_stays):
            return reported
    if first is None:
        return RankFailedError(
            f"the launcher ended with {describe_exit(exit_code)}{_from_outside(exit_code)}; "
            f"the end of {launcher_log if log_stays else 'its log'}:\n{tail(launcher_log)}"
        )
    how = "" if first.exit_code is None else f" with {describe_exit(first.exit_code)}"
    return RankFailedError(
        f"rank {first.rank} ended{how}{_cause(first, own, oom_kills)}; "
        f"the end of {own[0] if log_stays else 'its log'}:\n{tail(own[0])}"
    )


def reported_error(log: Path, *, log_stays: bool = True) -> PipelineError | None:
    """Return the PipelineError that a trainer program printed last, as an instance of its class."""
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
    """Return "exit code 3" or "signal SIGKILL"."""
    if exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log."""
    return "\n".join(_text(log).splitlines()[-lines:])


def count_oom_kills() -> int | None:
    """Return how many processes this machine's kernel has killed for want of memory, since it was started."""
    found = re.search(r"^oom_kill (\d+)$", _text(Path("/proc/vmstat")), re.MULTILINE)
    return None if found is None else int(found[1])


def _cause(first: RankEnd, logs: Iterable[Path], oom_kills: int | None) -> str:
    said = "\n".join(tail(log, _SEARCHED_LINES) for log in logs)
    for pattern, cause in _CAUSES:
        if pattern.search(said):
            return f": {cause}"
    if first.exit_code == -signal.SIGBUS:
        return f": {_SHARED_MEMORY}"
    if first.exit_code == -signal.SIGKILL:
        advice = f"{_LESS_MEMORY} or training.loader.num_workers"
        if oom_kills:
            return f": the kernel ended it for want of memory: {advice}"
        return f"; nobody here sent it: most often it is the kernel, for want of memory (`dmesg` tells): then {advice}"
    if first.exit_code == 128 + signal.SIGTERM:
        return ": something outside asked it to stop (SIGTERM)"
    return ""


def _from_outside(exit_code: int) -> str:
    # Paddle's launcher ends itself with the bare number of the signal that it was sent.
    if exit_code in (signal.SIGTERM, signal.SIGINT):
        return f" (something outside sent it {signal.Signals(exit_code).name})"
    return ""


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
