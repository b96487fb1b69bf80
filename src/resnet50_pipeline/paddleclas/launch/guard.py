"""Runs between the supervisor and Paddle's launcher. If either one dies, the guard kills all processes below itself.

    python -I -S guard.py <pid of the supervisor> <command> <argument> …

The launcher cannot do this, because it starts every rank in a separate session and cannot react to SIGKILL. A rank that
is stopped, or that waits for another rank inside Paddle, cannot end itself. The guard holds no locks, loads no
libraries and only waits for signals. As a *child subreaper* (prctl(2)), it becomes the parent of every orphan below it,
so no process can escape.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

# <linux/prctl.h>. `processes/parent_death.py` also calls prctl, but cannot be imported here: to start within
# milliseconds, this program runs without the package on its path.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_AWAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` sets SIG_IGN
    _AWAITED.add(signal.SIGHUP)
_POLL_SECONDS = 0.1
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - no file is created there
_LIBC = ctypes.CDLL(None)


def main(supervisor: int, command: list[str]) -> int:
    """Run the command and return its exit code, which is negative if a signal ended it.

    If a signal stops the guard itself, return 128 plus the signal number.
    """
    guard = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def die_with_guard() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        # If the guard is killed, the kernel kills the launcher. Each rank also sets PR_SET_PDEATHSIG, so it dies with
        # the launcher.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(128 + signal.SIGKILL)

    if os.getppid() != supervisor:
        return 128 + signal.SIGTERM
    child = subprocess.Popen(command, preexec_fn=die_with_guard)  # noqa: PLW1509 - this process has one thread
    ended: dict[int, int] = {}
    stopped_by = int(signal.SIGTERM)
    while child.pid not in ended and os.getppid() == supervisor:
        # With a timeout above 0, Python 3.11 returns an uninitialized number if the process is frozen past the timeout.
        time.sleep(_POLL_SECONDS)
        arrived = signal.sigtimedwait(_AWAITED, 0)
        ended |= _reap()
        if arrived is not None and arrived.si_signo != signal.SIGCHLD:
            stopped_by = arrived.si_signo
            break
    asked = child.pid not in ended
    ended |= _end_descendants()
    delete_shared_memory(ended)
    return 128 + stopped_by if asked else os.waitstatus_to_exitcode(ended[child.pid])


def delete_shared_memory(pids: Iterable[int]) -> None:
    """Delete the shared memory of killed DataLoader workers, which would otherwise remain until the next boot.

    Paddle names the files after the process that created them: /dev/shm/paddle_<pid>_<number>_<random>.
    """
    for pid in pids:
        for path in _SHARED_MEMORY.glob(f"paddle_{pid}_*"):
            path.unlink(missing_ok=True)


def _end_descendants() -> dict[int, int]:
    """Send SIGKILL to all descendants until none are left. Return their wait statuses, keyed by PID.

    Orphans become children of this process, so it can wait for all of them.
    """
    ended: dict[int, int] = {}
    while descendants := _descendants():
        for pid in descendants:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
        ended |= _reap()
    return ended


def _reap() -> dict[int, int]:
    """Return the wait statuses of all children that have ended, including the launcher's orphans, keyed by PID."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _descendants() -> list[int]:
    """Return the PIDs of all descendants, including zombies."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # "123 (a name (with) spaces) S 1 …": the parent is the second field after the name.
            parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    level = [os.getpid()]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


def _end_like(exit_code: int) -> None:
    """End this process with the signal that ended the command, without writing a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = signal.Signals(-exit_code)
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    code = main(int(sys.argv[1]), sys.argv[2:])
    if code < 0:
        _end_like(code)
    sys.exit(code)
