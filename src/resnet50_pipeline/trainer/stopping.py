"""A request to stop, which a rank honours between two steps instead of dying in one."""

from __future__ import annotations

import os
import signal
from types import FrameType


class StopRequest:
    """Set by SIGTERM and SIGINT from the moment it is made; each rank has its own, and the ranks compare them.

    Processes that this one forks afterwards, as the loader's workers, end at these signals as they would without it.
    """

    def __init__(self) -> None:
        self.signal_number: int = 0
        self._owner = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    @property
    def is_set(self) -> bool:
        """Whether somebody asked this rank to stop."""
        return self.signal_number != 0

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal_number = number
