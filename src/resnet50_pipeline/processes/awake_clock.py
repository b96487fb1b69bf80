"""A clock that stops while its process is frozen."""

from __future__ import annotations

import time
from collections.abc import Callable

# A process that polls several times per second was frozen if two polls are further apart than this.
_LONGEST_GAP_SECONDS = 5.0


class AwakeClock:
    """Counts the seconds during which its process was able to run. Read it often, for example at every poll.

    `docker pause`, SIGSTOP and suspending the machine or VM freeze the watching process together with the processes it
    watches. Time spent frozen must not count as silence.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_read = clock()
        self._seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds since the clock was created, excluding any time that the process spent frozen."""
        now = self._clock()
        self._seconds += min(now - self._last_read, _LONGEST_GAP_SECONDS)
        self._last_read = now
        return self._seconds
