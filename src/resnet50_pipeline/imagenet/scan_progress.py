"""Shows how far a long pass over many images is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def show_progress(
    total: int, console: Console | None = None, *, what: str = "reading images", unit: str = "images"
) -> Iterator[Callable[[int], None]]:
    """Give a function that takes the number of images, or bytes, that were done since its last call.

    Args:
        total: number of them.
        console: by default the standard error stream.
        what: is done, for people.
        unit: `images` or `bytes`.
    """
    console = console or Console(stderr=True)
    start = time.monotonic()
    done = 0

    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), _Count(unit), _Rate(unit), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(what, total=total)
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
            logger.info(
                "%s: %s of %s, %s/s, %.0f s to go",
                what,
                _format(done, unit, is_named=False),
                _format(total, unit),
                _format(int(rate), unit),
                (total - done) / rate,
            )

    yield advance


class _Count(ProgressColumn):
    """`40/2100`, or `1.2 GB/138.0 GB`."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return done and total."""
        done, total = (_format(int(value or 0), self._unit, is_named=False) for value in (task.completed, task.total))
        return Text(f"{done}/{total}")


class _Rate(_Count):
    """`2703 images/s`."""

    def render(self, task: Task) -> Text:
        """Return the rate of the last seconds, nothing before there is one."""
        return Text(f"{_format(int(task.speed), self._unit)}/s" if task.speed else "")


def _format(count: int, unit: str, *, is_named: bool = True) -> str:
    if unit == "bytes":
        return decimal(count)
    return f"{count} {unit}" if is_named else str(count)
