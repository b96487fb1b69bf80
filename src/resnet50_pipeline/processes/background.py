"""Runs work in a background thread while a block of code runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def running_in_background(work: Callable[[threading.Event], None], name: str, *, join_seconds: float) -> Iterator[None]:
    """Run `work` in a daemon thread while the block runs.

    Args:
        work: function to call once, with an event that is set when the block ends. The function must not raise
            exceptions.
        name: name of the thread.
        join_seconds: maximum time to wait for the thread at the end of the block.
    """
    is_over = threading.Event()
    thread = threading.Thread(target=work, args=(is_over,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(join_seconds)
