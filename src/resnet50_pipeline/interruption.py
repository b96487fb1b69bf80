"""SIGINT and SIGTERM as an error that ends a run cleanly, and that no library on the way can swallow for good."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from resnet50_pipeline.exceptions import RunInterruptedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received: int | None = None


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise RunInterruptedError in the main thread at the first SIGINT or SIGTERM while the block runs.

    The handlers of before are back from that signal on, so a second one ends the process at once.
    """
    global _received  # noqa: PLW0603 - a process has one set of signal handlers
    _received = None
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        global _received  # noqa: PLW0603
        _received = number
        restore()
        raise RunInterruptedError(number)

    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        restore()


def received_interruption() -> RunInterruptedError | None:
    """Return the error of the signal that came since `signals_interrupt` was entered, if one did."""
    return None if _received is None else RunInterruptedError(_received)


def raise_if_interrupted() -> None:
    """Raise again what a library's `except Exception` may have swallowed; call it where a run can stop.

    Raises:
        RunInterruptedError: a signal came since `signals_interrupt` was entered.
    """
    interruption = received_interruption()
    if interruption is not None:
        raise interruption
