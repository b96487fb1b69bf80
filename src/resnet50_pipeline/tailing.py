"""Reads the complete lines of a file while another process appends to it.

A last line without a newline may be incomplete, and is left for a later call.
"""

from __future__ import annotations

from pathlib import Path


class Tail:
    """Reads new lines of a growing file. If the file is replaced, the new file is read from the beginning."""

    def __init__(self, path: Path, *, skip_existing: bool = False) -> None:
        """Follow `path`, which may not exist yet. With `skip_existing`, the current lines of the file are skipped.

        An incomplete last line is not skipped, because the next writer completes it, or removes it if a killed writer
        has left it behind (`events.py`).
        """
        self._path = path
        self._inode = _inode(path)
        self._position = sum(map(len, read_complete_lines(path))) if skip_existing else 0

    def read_lines(self) -> list[bytes]:
        """Return the lines that have been completed since the last call, including their newlines."""
        if (inode := _inode(self._path)) != self._inode:
            self._inode, self._position = inode, 0
        lines = read_complete_lines(self._path, self._position)
        self._position += sum(map(len, lines))
        return lines


def read_complete_lines(path: Path, start_byte: int = 0, max_bytes: int = -1) -> list[bytes]:
    """Return the complete lines from `start_byte`, including their newlines.

    If the file does not exist, the list is empty.

    Args:
        path: path of the file.
        start_byte: position of the first byte of a line.
        max_bytes: number of bytes after which to stop at the next line end, or -1 to read the entire file.
    """
    try:
        with path.open("rb") as file:
            file.seek(start_byte)
            lines = file.readlines(max_bytes)
    except FileNotFoundError:
        return []
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
