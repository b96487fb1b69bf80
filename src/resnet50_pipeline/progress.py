"""Connects libraries that report the progress of long-running work to a view that shows it.

    with show_progress(total=1_281_167, what="packing images") as advance:
        advance(256)

The default view writes log lines. Use `set_view` or `showing_in` to install another view, such as the terminal view in
`logs/terminal.py`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from resnet50_pipeline.text import format_bytes, format_clock

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
# After this many intervals without progress, a log line names the running node. Some nodes, such as exports, report no
# progress.
_SILENT_INTERVALS = 6
# Pass this as `extra` in log calls for content that the terminal view already shows. A terminal then omits the line.
DRAWN = {"shown_elsewhere": "view"}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of an activity.

    Attributes:
        what: name of the activity, for example `packing images`.
        unit: unit of `done` and `total`, such as `images`, `steps` or `bytes`.
        done: amount completed so far.
        total: total amount, or None if unknown.
        rate: `rate_unit` per second, or None if unknown.
        rate_unit: unit of `rate`. Defaults to `unit`.
        seconds_left: estimated time remaining, or None if unknown.
        figures: additional values shown to users, keyed by name: {"loss": "0.412"}.
        fields: additional values for JSON lines, keyed by name: {"loss": 0.4123}.
    """

    what: str
    unit: str
    done: int = 0
    total: int | None = None
    rate: float | None = None
    rate_unit: str = ""
    seconds_left: float | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str | int | float] = field(default_factory=dict)

    def describe(self) -> str:
        """Return a summary such as `packing images: 200 of 1000 images, 20 images/s, 0:40 left`."""
        done = format_amount(self.done, self.unit)
        parts = [f"{self.what}: {done}" if self.total is None else f"{self.what}: {self.describe_count()}"]
        parts += [f"{name} {value}" for name, value in self.figures.items()]
        if self.rate is not None:
            parts.append(self.describe_rate())
        if self.seconds_left is not None:
            parts.append(f"{format_clock(self.seconds_left)} left")
        return ", ".join(parts)

    def describe_count(self) -> str:
        """Return the amount as text, such as `200 of 1000 images` or `1.25 GiB of 138 GiB`."""
        if self.total is None:
            return format_amount(self.done, self.unit)
        done = format_amount(self.done, self.unit)
        return f"{done.removesuffix(f' {self.unit}')} of {format_amount(self.total, self.unit)}"

    def describe_rate(self) -> str:
        """Return the rate as text, such as `20 images/s`, or "" if the rate is unknown."""
        return "" if self.rate is None else f"{format_amount(round(self.rate), self.rate_unit or self.unit)}/s"

    def as_fields(self) -> dict[str, str | int | float | None]:
        """Return the fields of a JSON log line, such as `images`, `total`, `images_per_second` and `eta_seconds`."""
        numbers: dict[str, str | int | float | None] = {"activity": self.what, self.unit: self.done}
        numbers["total"] = self.total
        numbers[f"{self.rate_unit or self.unit}_per_second"] = None if self.rate is None else round(self.rate, 3)
        numbers["eta_seconds"] = None if self.seconds_left is None else round(self.seconds_left, 1)
        return numbers | dict(self.fields)


@dataclass
class Stage:
    """The progress of a stage of a run.

    Attributes:
        name: name of the stage's pipeline.
        nodes: number of the stage's nodes in this run.
        done: number of finished nodes.
        seconds: total duration of the finished nodes.
        node: name of the running node, or "" if none is running.
        node_started: start time of the running node, in `time.monotonic` seconds.
    """

    name: str
    nodes: int
    done: int = 0
    seconds: float = 0.0
    node: str = ""
    node_started: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether all nodes have finished."""
        return self.done == self.nodes


class View(Protocol):
    """Shows the progress of a process. All methods may be called from any thread."""

    def show(self, progress: Progress) -> None:
        """Show the progress of an activity. Can be called repeatedly."""

    def end(self, what: str) -> None:
        """Stop showing the activity `what`, because it has finished or failed."""

    def show_evaluation(self, text: str) -> None:
        """Show the result of the last evaluation. The result is already in the log."""

    def open_run(self, stages: list[Stage], places: Mapping[str, str]) -> None:
        """Show the stages of a run until `close_run` is called. The caller updates `stages` in place.

        `places` maps titles to paths or URLs with more information.
        """

    def close_run(self) -> None:
        """Stop updating, and leave the final state in the terminal. May be called repeatedly."""


class ProgressLines:
    """Logs one line per activity every few seconds, or the running node if no activity reports progress."""

    def __init__(self, seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds_between_lines
        self._next: dict[str, float] = {}
        self._last_line = time.monotonic()
        self._ended = threading.Event()

    def show(self, progress: Progress) -> None:
        """Log the progress if the interval since the activity's start or last line has passed."""
        now = time.monotonic()
        if now < self._next.setdefault(progress.what, now + self._seconds):
            return
        self._next[progress.what] = now + self._seconds
        self._last_line = now
        logger.info("%s", progress.describe(), extra={"fields": progress.as_fields(), **DRAWN})

    def end(self, what: str) -> None:
        """Forget the activity, so that the next one with this name starts its own interval."""
        self._next.pop(what, None)

    def show_evaluation(self, text: str) -> None:
        """Do nothing, because the log already contains the result."""

    def open_run(self, stages: list[Stage], places: Mapping[str, str]) -> None:
        """Start a thread that logs nodes that report no progress. The caller logs the start and end of each stage."""
        self._ended.clear()
        threading.Thread(target=self._watch, args=(stages,), name="progress-lines", daemon=True).start()

    def close_run(self) -> None:
        """Stop the thread."""
        self._ended.set()

    def _watch(self, stages: list[Stage]) -> None:
        while not self._ended.wait(self._seconds):
            self.log_silent_node(stages)

    def log_silent_node(self, stages: list[Stage]) -> None:
        """Log the running node if no progress was logged for several intervals."""
        now = time.monotonic()
        silence = _SILENT_INTERVALS * self._seconds
        for stage in stages:
            if stage.node and now - max(self._last_line, stage.node_started) >= silence:
                self._last_line = now
                seconds = now - stage.node_started
                fields = {"activity": stage.node, "seconds": round(seconds, 1)}
                logger.info(
                    "%s has been running for %s",
                    stage.node,
                    format_clock(seconds),
                    extra={"fields": fields, **DRAWN},
                )


_view: View = ProgressLines()


def current_view() -> View:
    """Return the view that shows progress."""
    return _view


def set_view(view: View) -> None:
    """Show progress in `view` for the rest of the process."""
    global _view  # noqa: PLW0603 - a process has one terminal
    _view = view


@contextlib.contextmanager
def showing_in(view: View) -> Iterator[None]:
    """Show progress in `view` while the block runs, then close the view and restore the previous one."""
    global _view  # noqa: PLW0603 - a process has one terminal
    previous, _view = _view, view
    try:
        yield
    finally:
        view.close_run()
        _view = previous


@contextlib.contextmanager
def show_progress(total: int, *, what: str = "reading images", unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show the progress of an activity while the block runs.

    Yields a function to call with the number of images (or other units) processed since its last call.
    """
    view = current_view()
    start = time.monotonic()
    done = 0
    view.show(Progress(what=what, unit=unit, total=total))

    def advance(count: int) -> None:
        nonlocal done
        done += count
        seconds = time.monotonic() - start
        rate = done / seconds if seconds > 0 else None
        left = (total - done) / rate if rate else None
        view.show(Progress(what=what, unit=unit, done=done, total=total, rate=rate, seconds_left=left))

    try:
        yield advance
    finally:
        view.end(what)


@contextlib.contextmanager
def show_activity(what: str) -> Iterator[None]:
    """Show an activity of unknown length while the block runs."""
    view = current_view()
    view.show(Progress(what=what, unit=""))
    try:
        yield
    finally:
        view.end(what)


def format_amount(count: int, unit: str) -> str:
    """Return an amount as text: `1000 images`, `1.25 GiB` for bytes, or only the number if the unit is ""."""
    return format_bytes(count) if unit == "bytes" else f"{count} {unit}".rstrip()
