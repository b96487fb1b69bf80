"""Identifies the process of a run, so that other processes can check whether it is still alive."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Self

import psutil

from resnet50_pipeline.frozen_model import FrozenModel

# Start times are derived from clock ticks and may vary by a fraction of a second between reads.
_START_TOLERANCE_SECONDS = 1.0
PROCESS_TAGS = _HOST, _PID, _STARTED = "process.host", "process.pid", "process.started"


class ProcessIdentity(FrozenModel):
    """Identifies a process by host, PID and start time. The PID alone is not unique, because the kernel reuses PIDs.

    Attributes:
        host: host name of the machine.
        pid: process ID on that machine.
        started: start time in seconds since the Unix epoch.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def of_this_process(cls) -> Self:
        """Return the identity of the current process."""
        return cls.of(psutil.Process())

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Return the identity of a process on this machine."""
        return cls(host=socket.gethostname(), pid=process.pid, started=process.create_time())

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """Return the identity stored in a run's tags by `as_tags`.

        Raises:
            KeyError: if a tag is missing.
        """
        return cls(host=tags[_HOST], pid=int(tags[_PID]), started=float(tags[_STARTED]))

    def as_tags(self) -> dict[str, str]:
        """Return the identity as tags of an MLflow run."""
        return {_HOST: self.host, _PID: str(self.pid), _STARTED: str(self.started)}

    def may_be_alive(self) -> bool:
        """Return False only if the process is known to have ended. Processes elsewhere count as alive."""
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(process.create_time() - self.started) <= _START_TOLERANCE_SECONDS
        except psutil.NoSuchProcess:
            return False
