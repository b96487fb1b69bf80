"""Stands between the process that trains and Paddle's launcher: when either of them dies, everything below dies too.

    python -I -S guard.py <pid of the supervisor> <command> <argument> …

Neither the launcher nor the ranks can be relied on for that: the launcher puts every rank into a session of its own,
SIGKILL gives it no chance to end them, and a rank that is stopped, or waits inside Paddle for another one, cannot look
after itself. This program holds no lock, loads no library and waits for signals only. As a *child subreaper* (prctl(2))
it inherits whatever loses its parent below it, so nothing that was started can slip away.
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

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_AWAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_POLL_SECONDS = 1.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing is made there
_LIBC = ctypes.CDLL(None)


def main(supervisor: int, command: list[str]) -> int:
    """Run the command; return its exit code (negative: its signal), or 143 where it was ended from here."""
    guard = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def follow_the_guard() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        # Should the guard itself be killed, the launcher goes with it, and the ranks with the launcher.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(128 + signal.SIGKILL)

    if os.getppid() != supervisor:
        return 128 + signal.SIGTERM
    child = subprocess.Popen(command, preexec_fn=follow_the_guard)  # noqa: PLW1509 - there is one thread only
    ended: dict[int, int] = {}
    while child.pid not in ended and os.getppid() == supervisor:
        arrived = signal.sigtimedwait(_AWAITED, _POLL_SECONDS)
        ended |= _reap()
        if arrived is not None and arrived.si_signo != signal.SIGCHLD:
            break
    asked = child.pid not in ended
    ended |= _end_descendants()
    delete_shared_memory(ended)
    return 128 + signal.SIGTERM if asked else os.waitstatus_to_exitcode(ended[child.pid])


def delete_shared_memory(pids: Iterable[int]) -> None:
    """Delete what loader processes left in shared memory: killed, they cannot, and it would stay until the next boot.

    Paddle names it by the process that made it: /dev/shm/paddle_<pid>_<number>_<random>.
    """
    for pid in pids:
        for path in _SHARED_MEMORY.glob(f"paddle_{pid}_*"):
            path.unlink(missing_ok=True)


def _end_descendants() -> dict[int, int]:
    """SIGKILL everything below this process until nothing is left; return the wait status of each by PID.

    A process that lost its parent meanwhile is a child of this one, so all of them are waited for here in the end.
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
    """Return the wait status, by PID, of every child that has ended, orphans of the launcher included."""
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
    """Return the PIDs of all living and unreaped processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # "123 (a name (with) spaces) S 1 …": the parent is the second field behind the name.
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
    """End this process as the command ended: by the same signal, without a core file of its own."""
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
