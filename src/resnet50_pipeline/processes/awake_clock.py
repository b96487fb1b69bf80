"""A clock that stops while its process is frozen."""

from __future__ import annotations

import time
from collections.abc import Callable

# A process that polls several times per second was frozen if two polls are further apart than this.
_LONGEST_GAP_SECONDS = 5.0


class AwakeClock:
    """Counts the seconds during which its process could run. Read it often, for example at every poll.

    `docker pause`, SIGSTOP and a suspended machine or VM freeze the watching process together with the processes that
    it watches. The time spent frozen must not count as silence.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_read = clock()
        self._seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds since the clock was created, excluding the time during which the process was frozen."""
        now = self._clock()
        self._seconds += min(now - self._last_read, _LONGEST_GAP_SECONDS)
        self._last_read = now
        return self._seconds
