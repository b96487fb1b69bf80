"""Starts, watches and ends the processes of a run. A guard process ensures that no process outlives the run."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.paddleclas.launch.guard import delete_shared_memory

logger = logging.getLogger(__name__)

GUARD_PROGRAM = Path(__file__).with_name("guard.py")
# Environment variable in every process of a run. It identifies the processes even after their parents have ended.
RUN_TOKEN = "RESNET50_PIPELINE_RUN"  # noqa: S105 - a name, not a secret
# Paddle's launcher sets these variables to the index of a rank among all ranks and among the ranks on its machine.
_RANK, _LOCAL_RANK = "PADDLE_TRAINER_ID", "PADDLE_LOCAL_RANK"
_GUARD_SECONDS = 10.0
_EFFECT_SECONDS = 1.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended. `exit_code` is negative if a signal ended the rank, or None if it could not be read."""

    rank: int
    local_rank: int
    exit_code: int | None

    @property
    def is_effect(self) -> bool:
        """Whether another rank's failure may have caused this one.

        A rank that loses a peer fails with an exception, or is killed by SIGABRT inside Paddle.
        """
        return self.exit_code in (-signal.SIGABRT, *range(1, 256))


class Processes:
    """The processes of a run on this machine.

    The guard starts the launcher, and the launcher starts the ranks.
    """

    def __init__(self, guard: subprocess.Popen[bytes], token: str) -> None:
        self._guard, self._token = guard, token
        self._ranks: dict[int, psutil.Process] = {}
        self._local_ranks: dict[int, int] = {}
        self.first_end: RankEnd | None = None
        """The first rank seen to end with an exit code other than 0."""
        self._decided_at = 0.0

    def poll(self) -> int | None:
        """Return the launcher's exit code (negative for a signal), or None until all processes have ended."""
        return self._guard.poll()

    def wait(self, seconds: float) -> None:
        """Wait until a rank ends, for at most `seconds`.

        The launcher reads exit codes once per second, and they are lost afterward. Waking up immediately leaves time
        to read them first.
        """
        with contextlib.ExitStack() as stack:
            ends = select.poll()
            for process in filter(_is_alive, self._ranks.values()):
                with contextlib.suppress(OSError):  # the rank has ended, or the kernel is older than 5.3
                    descriptor = os.pidfd_open(process.pid)
                    stack.callback(os.close, descriptor)
                    ends.register(descriptor, select.POLLIN)
            ends.poll(seconds * 1000)

    def watch(self, count: int) -> None:
        """Find this machine's `count` ranks, and record the first rank that failed."""
        if len(self._ranks) < count or not all(map(psutil.Process.is_running, self._ranks.values())):
            self._find_ranks()
        if self.first_end is None or (self.first_end.is_effect and time.monotonic() < self._decided_at):
            ends = [
                RankEnd(rank, self._local_ranks[rank], exit_code)
                for rank, process in sorted(self._ranks.items())
                if (exit_code := _exit_code(process))
            ]
            if self.first_end is None and ends:
                self.first_end = min(ends, key=lambda end: end.is_effect)
                self._decided_at = time.monotonic() + _EFFECT_SECONDS
            # If a large process is killed, the kernel closes its connections before the process has ended, so the rank
            # at the other end may appear to fail first. Ignore SIGTERM, which the launcher sends to the remaining
            # ranks.
            causes = [end for end in ends if not end.is_effect and end.exit_code != -signal.SIGTERM]
            if causes and self.first_end is not None and self.first_end.is_effect:
                self.first_end = causes[0]

    def caused_the_failure(self, count: int) -> bool:
        """Return whether one of this machine's `count` ranks caused the failure that another machine reported.

        The report may arrive while a large process on this machine is still being killed, so this method waits briefly.
        If a rank is already gone, the launcher's log contains its exit code.
        """
        deadline = time.monotonic() + _EFFECT_SECONDS
        while self.first_end is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            self.watch(count)
            if self.first_end is None and not all(map(psutil.Process.is_running, self._ranks.values())):
                return True
        return self.first_end is not None and not self.first_end.is_effect

    @property
    def ranks_were_seen(self) -> bool:
        """Whether the launcher has started at least one rank."""
        return bool(self._ranks)

    @property
    def ranks_by_local_rank(self) -> dict[int, int]:
        """The ranks of this machine, keyed by local rank."""
        return {local_rank: rank for rank, local_rank in self._local_ranks.items()}

    def local_rank(self, rank: int) -> int | None:
        """Return the local rank used in the name of the rank's log, or None if the rank is on another machine."""
        return self._local_ranks.get(rank)

    def ranks_in_state(self, status: str) -> list[int]:
        """Return the ranks whose processes have a psutil status, such as STATUS_STOPPED."""
        return [rank for rank, process in sorted(self._ranks.items()) if _status(process) == status]

    def request_stacks(self) -> None:
        """Send SIGUSR1, so that the trainer programs write the stacks of their threads to their logs."""
        for process in self._ranks.values():
            _signal(process, signal.SIGUSR1)
        time.sleep(2 * _POLL_SECONDS)

    def request_stop(self, grace_seconds: float) -> bool:
        """Send SIGTERM, so that the ranks stop after their current step. Return whether all of them stopped in time.

        Paddle's launcher would kill the ranks after half a second, so the launcher is paused with SIGSTOP until the
        ranks have ended.
        """
        self._find_ranks()
        for process in self._launchers():
            _signal(process, signal.SIGSTOP)
        for process in self._ranks.values():
            _signal(process, signal.SIGTERM)
            _signal(process, signal.SIGCONT)  # a stopped process handles SIGTERM only after SIGCONT
        deadline = time.monotonic() + grace_seconds
        while any(map(_is_alive, self._ranks.values())):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def end(self) -> None:
        """End all processes, and return after the last process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._guard.send_signal(signal.SIGTERM)
        try:
            self._guard.wait(_GUARD_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        # The guard ends all its descendants. If the guard itself was killed, find the processes by the run's token.
        deadline = time.monotonic() + _GUARD_SECONDS
        while (left := _with_token(self._token)) and time.monotonic() < deadline:
            for process in left:
                _signal(process, signal.SIGKILL)
            psutil.wait_procs(left, timeout=_POLL_SECONDS)
            delete_shared_memory(process.pid for process in left)

    def _launchers(self) -> list[psutil.Process]:
        return [process for process in self._below_the_guard() if _rank_of(process) is None]

    def _find_ranks(self) -> None:
        for process in self._below_the_guard():
            rank = _rank_of(process)
            # DataLoader workers inherit their rank's environment. The rank itself is the process whose parent is the
            # launcher.
            if rank is not None and _rank_of(_parent(process)) is None and process != self._ranks.get(rank):
                self._ranks[rank] = process
                self._local_ranks[rank] = int(_environment(process).get(_LOCAL_RANK, rank))

    def _below_the_guard(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._guard.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


@contextlib.contextmanager
def started(command: LaunchCommand, output: int) -> Iterator[Processes]:
    """Start a command under a guard process and end all its processes when the block ends.

    `output` is the file descriptor for the command's stdout and stderr.
    """
    token = uuid.uuid4().hex
    # Use a separate session, so that Ctrl-C in the terminal reaches only Kedro, which then stops the ranks.
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD_PROGRAM), str(os.getpid()), *command.arguments],
        env={**command.environment, RUN_TOKEN: token},
        cwd=command.working_dir,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    processes = Processes(guard, token)
    try:
        yield processes
    finally:
        processes.end()


def _rank_of(process: psutil.Process | None) -> int | None:
    rank = _environment(process).get(_RANK)
    return None if rank is None else int(rank)


def _parent(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.Error:
        return None


def _environment(process: psutil.Process | None) -> Mapping[str, str]:
    try:
        return {} if process is None else process.environ()
    except psutil.Error:
        return {}


def _with_token(token: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _environment(process).get(RUN_TOKEN) == token]


def _status(process: psutil.Process) -> str | None:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return None


def _is_alive(process: psutil.Process) -> bool:
    return _status(process) not in (None, psutil.STATUS_ZOMBIE)


def _exit_code(process: psutil.Process) -> int | None:
    """Return the exit code of a zombie process, or None for any other process."""
    if _status(process) != psutil.STATUS_ZOMBIE:
        return None
    try:
        # proc(5), field 52: the exit status in the form of waitpid(2).
        status = int(Path(f"/proc/{process.pid}/stat").read_bytes().split()[-1])
    except (OSError, ValueError):
        return None
    return os.waitstatus_to_exitcode(status)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
