"""Shows how far the scan is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def show_progress(total: int, console: Console | None = None) -> Iterator[Callable[[int], None]]:
    """Give a function that takes the number of images that were read since its last call.

    Args:
        total: number of images.
        console: by default the standard error stream.
    """
    console = console or Console(stderr=True)
    start = time.monotonic()
    done = 0

    if console.is_terminal:
        columns = (TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=total)
            yield lambda count: progress.update(task, advance=count)
        return

    next_line = start + _SECONDS_BETWEEN_LINES

    def advance(count: int) -> None:
        nonlocal done, next_line
        done += count
        now = time.monotonic()
        if now >= next_line:
            next_line = now + _SECONDS_BETWEEN_LINES
            rate = done / (now - start)
            logger.info("read %d of %d images, %.0f images/s, %.0f s to go", done, total, rate, (total - done) / rate)

    yield advance
