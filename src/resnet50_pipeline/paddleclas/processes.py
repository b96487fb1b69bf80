"""The processes of a run: started below a guard, asked to stop in order, and ended whatever happens."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from resnet50_pipeline.paddleclas.guard import delete_shared_memory
from resnet50_pipeline.paddleclas.launch import LaunchCommand

logger = logging.getLogger(__name__)

GUARD_PROGRAM = Path(__file__).with_name("guard.py")
# What every process of a run has in its environment, and no other: found again, even where its parents are gone.
RUN_TOKEN = "RESNET50_PIPELINE_RUN"  # noqa: S105 - a name, and no secret
# Set by Paddle's launcher: the place of a rank among all of them, and among those of its machine.
_RANK, _LOCAL_RANK = "PADDLE_TRAINER_ID", "PADDLE_LOCAL_RANK"
_GUARD_SECONDS = 10.0
_EFFECT_SECONDS = 1.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended: `exit_code` is negative for a signal, None where nobody could read it."""

    rank: int
    local_rank: int
    exit_code: int | None

    @property
    def is_effect(self) -> bool:
        """Whether the rank may have ended because another had: with an exception, or inside Paddle with SIGABRT."""
        return self.exit_code in (-signal.SIGABRT, *range(1, 256))


class Processes:
    """The guard, the launcher below it and the ranks below that."""

    def __init__(self, guard: subprocess.Popen[bytes], token: str) -> None:
        self._guard, self._token = guard, token
        self._ranks: dict[int, psutil.Process] = {}
        self._local_ranks: dict[int, int] = {}
        self.first_end: RankEnd | None = None
        """The first rank that ended otherwise than with 0, as far as it was seen."""
        self._decided_at = 0.0

    def poll(self) -> int | None:
        """Return the launcher's exit code once everything has ended, negative for a signal."""
        return self._guard.poll()

    def watch(self, count: int) -> None:
        """Look for the `count` ranks of this machine as long as they are not there, and note the first that failed."""
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
            # A large process that is killed closes its connections before it counts as ended: who missed it may be
            # seen first. SIGTERM is the launcher's own, to the ranks that are left.
            causes = [end for end in ends if not end.is_effect and end.exit_code != -signal.SIGTERM]
            if causes and self.first_end is not None and self.first_end.is_effect:
                self.first_end = causes[0]

    def turn_out_to_be_the_cause(self, count: int) -> bool:
        """Return whether one of the `count` ranks here ended by itself, where another machine tells that its own has.

        News may come sooner than the end of a large process that was killed, so this looks for a moment. A rank that is
        gone was seen by the launcher, whose log says how it ended.
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
        """Whether the launcher has started a rank."""
        return bool(self._ranks)

    @property
    def ranks_by_place(self) -> dict[int, int]:
        """The ranks of this machine by their place among them."""
        return {local_rank: rank for rank, local_rank in self._local_ranks.items()}

    def local_rank(self, rank: int) -> int | None:
        """Return the place of a rank among those of this machine, the number of its log; None where it is not here."""
        return self._local_ranks.get(rank)

    def ranks_in_state(self, status: str) -> list[int]:
        """Return the ranks that are in a state of psutil's, as STATUS_STOPPED."""
        return [rank for rank, process in sorted(self._ranks.items()) if _status(process) == status]

    def ask_for_stacks(self) -> None:
        """Let the trainer programs write to their logs where each of their threads is (they take SIGUSR1 for that)."""
        for process in self._ranks.values():
            _signal(process, signal.SIGUSR1)
        time.sleep(2 * _POLL_SECONDS)

    def ask_to_stop(self, grace_seconds: float) -> bool:
        """Ask the ranks by SIGTERM to end after the step they are in; return whether all did within the time.

        Paddle's launcher, asked itself, gives the ranks half a second. So it is held (SIGSTOP) until they are done.
        """
        self._find_ranks()
        for process in self._launchers():
            _signal(process, signal.SIGSTOP)
        for process in self._ranks.values():
            _signal(process, signal.SIGTERM)
            _signal(process, signal.SIGCONT)  # a stopped process does not see SIGTERM until it goes on
        deadline = time.monotonic() + grace_seconds
        while any(map(_is_alive, self._ranks.values())):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def end(self) -> None:
        """End everything at once, and return when nothing is left."""
        with contextlib.suppress(ProcessLookupError):
            self._guard.send_signal(signal.SIGTERM)
        try:
            self._guard.wait(_GUARD_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        # The guard leaves nothing; should it have been killed itself, the token finds what it had started.
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
            # Loader processes have their rank's environment; the rank is the one whose parent is the launcher.
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
    """Start a command below a guard, its output going to the file descriptor; the block's end ends everything."""
    token = uuid.uuid4().hex
    # Its own session: Ctrl-C in the terminal reaches Kedro alone, which then ends the ranks in order.
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
    """Return the exit code of a process that has ended and that its parent has not asked about yet, or None."""
    if _status(process) != psutil.STATUS_ZOMBIE:
        return None
    try:
        # proc(5), field 52: the status as waitpid(2) gives it.
        status = int(Path(f"/proc/{process.pid}/stat").read_bytes().split()[-1])
    except (OSError, ValueError):
        return None
    return os.waitstatus_to_exitcode(status)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
