"""Turns SIGINT, SIGTERM and SIGHUP into an exception that ends a run cleanly, even if a library suppresses it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from resnet50_pipeline.exceptions import RunInterruptedError

_received: int | None = None


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask this process to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP (a closed terminal).

    SIGHUP is excluded if this process ignores it, as it does under `nohup`.
    """
    asks_to_stop = (signal.SIGINT, signal.SIGTERM)
    return asks_to_stop if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*asks_to_stop, signal.SIGHUP)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """While the block runs, raise RunInterruptedError in the main thread when the first of `stop_signals` arrives.

    After the first signal, the previous handlers are restored, so a second SIGINT or SIGTERM ends the process
    immediately. Only SIGHUP is ignored from then on, because the kernel and the shell both send SIGHUP when a terminal
    closes. If the first signal was SIGHUP, further SIGHUPs are ignored even after the block.
    """
    global _received  # noqa: PLW0603 - a process has one set of signal handlers
    _received = None
    previous = {number: signal.getsignal(number) for number in stop_signals()}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        global _received  # noqa: PLW0603
        _received = number
        restore()
        if signal.SIGHUP in previous:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if number == signal.SIGHUP:
            del previous[signal.SIGHUP]
        raise RunInterruptedError(number)

    for number in previous:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        restore()


def received_interruption() -> RunInterruptedError | None:
    """Return an error for the signal received in the `signals_interrupt` block, or None if no signal was received."""
    return None if _received is None else RunInterruptedError(_received)


def raise_if_interrupted() -> None:
    """Raise the error for a received signal again, in case a library's `except Exception` has suppressed it.

    Call this function where a run can safely stop.

    Raises:
        RunInterruptedError: if a signal was received in the `signals_interrupt` block.
    """
    interruption = received_interruption()
    if interruption is not None:
        raise interruption
