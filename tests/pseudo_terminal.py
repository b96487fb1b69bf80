"""Runs a command in a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_in_terminal(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    columns: int | None = None,
) -> tuple[int, bytes]:
    """Run a command to completion in a terminal of 30 rows, and return its exit code and all its output."""
    main, side = pty.openpty()
    if columns is not None:
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    # These variables would override the size and the capabilities of the terminal.
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**inherited, "TERM": "xterm-256color", **(environment or {})},
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    printed = b""
    while True:
        try:
            printed += os.read(main, 65536)
        except OSError:  # the other side is closed
            break
    os.close(main)
    return process.wait(timeout=60), printed
