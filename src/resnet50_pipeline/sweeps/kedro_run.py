"""A `kedro run` that a sweep has started: its log, its events as they come, and its end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from resnet50_pipeline.events import AnyEvent, read_events
from resnet50_pipeline.interruption import raise_if_interrupted
from resnet50_pipeline.sweeps.plan import command_of

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
# Beyond the ranks' own time to stop: Kedro's, to tell MLflow.
_END_SECONDS = 60.0
_TAIL_LINES = 15


class KedroRun:
    """The process; leaving the block asks it to stop, and waits."""

    def __init__(
        self, run_file: Path, log: Path, environment: Mapping[str, str], project_path: Path, grace_seconds: float
    ) -> None:
        self._log = log
        self._grace_seconds = grace_seconds
        with log.open("ab") as file:
            # A session of its own: Ctrl-C in the terminal is for the sweep, which asks the run once. A second signal
            # would end it before it has saved.
            self._process = subprocess.Popen(
                command_of(run_file),
                cwd=project_path,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, look: Callable[[], bool] = lambda: True) -> int | None:
        """Return the exit code; None where `look`, called now and then and once at the end, said to stop.

        Raises:
            RunInterruptedError: a signal came.
        """
        while True:
            exit_code = self._process.poll()
            if not look() and exit_code is None:
                self.stop()
                return None
            if exit_code is not None:
                return exit_code
            raise_if_interrupted()
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask it to stop, and wait for it; it saves a checkpoint set first. What does not end is killed."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._grace_seconds + _END_SECONDS)
        except BaseException as error:
            self._process.kill()
            self._process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            logger.warning("process %d did not end in time and was killed; see %s", self._process.pid, self._log)

    def describe_end(self, exit_code: int) -> str:
        """Return how it ended: its own error where it has said one, the end of its log otherwise."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
        how = f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with code {exit_code}"
        said = lines[starts[-1] :] if starts else lines
        return "\n".join([f"{how}; {self._log} ends with:", *said[-_TAIL_LINES:]])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class EventTail:
    """The events of a training, each once, also where a training that starts anew has a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._inode: int | None = None

    def read(self) -> list[AnyEvent]:
        """Return what was appended since the last time."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            return []
        if inode != self._inode:
            self._inode, self._position = inode, 0
        events, self._position = read_events(self._path, self._position)
        return events
