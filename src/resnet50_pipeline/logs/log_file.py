"""Writes the log file of one run, `<logs.directory>/<session>.log`.

Lines are complete even if the process is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from resnet50_pipeline.processes.locks import try_lock

SUFFIX = ".log"


class RunLogHandler(logging.FileHandler):
    """Writes a log file, which is named after its start time until the session is known.

    The file stays locked to keep other runs from deleting it.
    """

    def __init__(self, directory: Path) -> None:
        """Create the folder, and a log file named after the current time.

        Raises:
            OSError: if the folder or the file cannot be created.
        """
        directory.mkdir(parents=True, exist_ok=True)
        started = f"{datetime.now(UTC):%Y-%m-%dT%H.%M.%S.%f}"[:-3] + "Z"  # the format of Kedro's session ids
        path = directory / f"{started}{SUFFIX}"
        if path.exists():
            path = directory / f"{started}-{os.getpid()}{SUFFIX}"
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.path = path
        self._has_failed = False
        # On file systems without locks, only the age of the file protects it from deletion.
        with contextlib.suppress(OSError):
            try_lock(self.stream.fileno())  # type: ignore[union-attr] # opened by the constructor above

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in `logging`
        """Report the first failed write to stderr, for example if the disk is full. Other handlers are not affected."""
        self._report(sys.exc_info()[1])

    def close(self) -> None:
        """Close the file. Like `handleError`, report a failed write to stderr without affecting the run's result."""
        try:
            super().close()
        except OSError as error:
            self._report(error)

    def _report(self, error: BaseException | None) -> None:
        if not self._has_failed:
            self._has_failed = True
            sys.stderr.write(f"cannot write to the log file {self.path}: {error}\n")

    def rename_to_session(self, session: str) -> None:
        """Rename the file to `<session>.log` unless a file with that name exists."""
        path = self.path.with_name(f"{session}{SUFFIX}")
        if not path.exists():
            self.path.rename(path)
            self.path, self.baseFilename = path, str(path.absolute())


def prune_log_files(directory: Path, keep: int) -> None:
    """Delete all but the newest `keep` log files. The files of running processes are kept."""
    # The names are start times, so they sort by age. If two runs prune at the same time, a file may already be gone.
    for path in sorted(directory.glob(f"*{SUFFIX}"))[:-keep]:
        with contextlib.suppress(OSError), path.open("rb") as file:
            if try_lock(file.fileno()):
                path.unlink()
