"""The log file of one run: `<logs.directory>/<session>.log`, whole to the last line whatever ends the process."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

SUFFIX = ".log"


class RunLogHandler(logging.FileHandler):
    """Appends to a file that bears the time of its start until the session is known, whose name it then takes.

    While the process lives it holds a lock of the file, so that no other run deletes it.
    """

    def __init__(self, directory: Path) -> None:
        """Create the file, and its folder.

        Raises:
            OSError: that cannot be.
        """
        directory.mkdir(parents=True, exist_ok=True)
        started = f"{datetime.now(UTC):%Y-%m-%dT%H.%M.%S.%f}"[:-3] + "Z"  # as Kedro names its sessions
        path = directory / f"{started}{SUFFIX}"
        if path.exists():
            path = directory / f"{started}-{os.getpid()}{SUFFIX}"
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.path = path
        self._has_failed = False
        # A file system without locks: then the file is kept for its age alone.
        with contextlib.suppress(OSError):
            fcntl.flock(self.stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[union-attr] # it was opened just now

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's own name
        """Say once that the file cannot be written, as where the disk is full, and log on to the other places."""
        if not self._has_failed:
            self._has_failed = True
            sys.stderr.write(f"the log file {self.path} cannot be written: {sys.exc_info()[1]}\n")

    def take_name(self, session: str) -> None:
        """Name the file after the session, unless there is one of that name."""
        path = self.path.with_name(f"{session}{SUFFIX}")
        if not path.exists():
            self.path.rename(path)
            self.path, self.baseFilename = path, str(path.absolute())


def prune_log_files(directory: Path, keep: int) -> None:
    """Delete the oldest log files beyond `keep`, but none that a process writes to."""
    # Their names are times; one without a lock that vanishes meanwhile was deleted by another run that begins now.
    for path in sorted(directory.glob(f"*{SUFFIX}"))[:-keep]:
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
