"""Runs a command that is asked to stop when the process that started it is gone, however that ended.

    python -I -S leash.py <pid of the sweep> <command> <argument> …

A trial whose sweep was killed saves a checkpoint set and ends; the next sweep goes on from it. Between fork and exec
of a process with threads nothing of Python may run, so this is a program of its own, which the command replaces.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1


def main(owner: int, command: list[str]) -> None:
    """Become the command, on a leash."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != owner:  # gone before the leash was on
        sys.exit(128 + signal.SIGTERM)
    os.execv(command[0], command)  # noqa: S606 - the sweep's own command


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
