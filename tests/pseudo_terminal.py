"""Runs a command in a pseudo-terminal, and draws its output."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

_TOKEN = re.compile(r"\x1b\[(?P<arguments>[0-9;?]*)(?P<code>[a-zA-Z])|(?P<character>.)", re.DOTALL)


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
    overriding = ("COLUMNS", "LINES", "NO_COLOR")
    given = {**os.environ, "TERM": "xterm-256color", **(environment or {})}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={name: value for name, value in given.items() if name not in overriding},
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


def draw(printed: str) -> list[str]:
    """Return the lines that a terminal of unlimited height would show for a program's output.

    Supports the escape sequences that rich writes: colors, erase line and cursor up.
    """
    lines, row, column = [""], 0, 0
    for token in _TOKEN.finditer(printed):
        match token["code"], token["character"]:
            case "A", _:
                row -= int(token["arguments"] or 1)
            case "K", _:
                assert token["arguments"] == "2"
                lines[row] = ""
            case None, "\r":
                column = 0
            case None, "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case None, character:
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
    return [line.rstrip() for line in lines]
