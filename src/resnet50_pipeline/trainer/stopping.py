"""Records requests to stop. A rank finishes its current step before it stops."""

from __future__ import annotations

import os
import signal
from types import FrameType

from resnet50_pipeline.processes.interruption import stop_signals


class StopRequest:
    """A flag that is set when SIGTERM, SIGINT or SIGHUP arrives. If the flag is set on any rank, all ranks stop.

    In processes forked later, such as data loader workers, these signals keep their default effect.
    """

    def __init__(self) -> None:
        self.signal_number: int = 0
        self._owner = os.getpid()
        for number in stop_signals():
            signal.signal(number, self._receive)

    @property
    def is_set(self) -> bool:
        """Whether this rank was asked to stop."""
        return self.signal_number != 0

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A forked process inherits this handler, but must exit as if there were no handler.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal_number = number
