"""Ends a process when its parent process ends, even if the parent is killed (Linux only).

Run as a program, this module executes a command that receives SIGTERM when its parent ends:

    python -I -S parent_death.py <PID of the parent> <command> <argument> …

A separate program is needed, because a process with threads must not run Python code between fork and exec. The program
asks the kernel for the signal, and then replaces itself with the command. This module runs without the package on its
path, so it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def signal_on_parent_death(number: signal.Signals) -> None:
    """Ask the kernel to send a signal to this process when its parent ends. The setting survives exec."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def main(parent: int, command: list[str]) -> None:
    """Replace this process with the command."""
    signal_on_parent_death(signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before the call above
        sys.exit(128 + signal.SIGTERM)
    os.execv(command[0], command)  # noqa: S606 - the caller's own command


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
