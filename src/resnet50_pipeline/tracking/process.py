"""Which process a run belongs to, so that a later one can tell whether it is still alive."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Self

import psutil
from pydantic import BaseModel, ConfigDict

# The clock behind a process's start time is read in ticks, and differs by a fraction of a second between readings.
_START_TOLERANCE_SECONDS = 1.0
PROCESS_TAGS = _HOST, _PID, _STARTED = "process.host", "process.pid", "process.started"


class ProcessIdentity(BaseModel):
    """A process for good: its number alone is given to another one sooner or later.

    Attributes:
        host: name of the machine.
        pid: number on that machine.
        started: seconds since the Unix epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    pid: int
    started: float

    @classmethod
    def of_this_process(cls) -> Self:
        """Return the identity of the calling process."""
        return cls.of(psutil.Process())

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Return the identity of a process of this machine."""
        return cls(host=socket.gethostname(), pid=process.pid, started=process.create_time())

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """Return the identity that `as_tags` wrote.

        Raises:
            KeyError: the tags are not there.
        """
        return cls(host=tags[_HOST], pid=int(tags[_PID]), started=float(tags[_STARTED]))

    def as_tags(self) -> dict[str, str]:
        """Return it as tags of an MLflow run."""
        return {_HOST: self.host, _PID: str(self.pid), _STARTED: str(self.started)}

    def may_be_alive(self) -> bool:
        """Return False where the process has ended for sure; on another machine nobody here can know."""
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(process.create_time() - self.started) <= _START_TOLERANCE_SECONDS
        except psutil.NoSuchProcess:
            return False
