"""How far long work is: libraries tell it here, and whoever started the process says how it is shown.

    with show_progress(total=1_281_167, what="packing images") as advance:
        advance(256)

Lines of the log show it unless `showing_in` names another view, as a terminal's (`logs/terminal.py`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
# Then a line says that something goes on of which nobody can say how far it is, as an export.
_SILENT_INTERVALS = 6
_KILO = 1000
# `extra=` of a record that says what a terminal's view draws: it is left out of the lines above the view.
DRAWN = {"shown_elsewhere": "view"}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one piece of work is.

    Attributes:
        what: is done, for people: `packing images`.
        unit: of `done` and `total`: `images`, `steps`, `bytes`, …
        done: so far.
        total: all there is to do; None where nobody knows.
        rate: of `rate_unit` a second; None before there is one.
        rate_unit: `unit` where not given.
        seconds_left: None where nobody knows.
        figures: what else people want to see, by the name they read: {"loss": "0.412"}.
        fields: what machines read besides, in JSON lines: {"loss": 0.4123}.
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
        """Return one line: `packing images: 200 of 1000 images, 20 images/s, 0:40 left`."""
        done = format_count(self.done, self.unit)
        parts = [f"{self.what}: {done}" if self.total is None else f"{self.what}: {self.describe_count()}"]
        parts += [f"{name} {value}" for name, value in self.figures.items()]
        if self.rate is not None:
            parts.append(self.describe_rate())
        if self.seconds_left is not None:
            parts.append(f"{format_duration(self.seconds_left)} left")
        return ", ".join(parts)

    def describe_count(self) -> str:
        """Return `200 of 1000 images`, or `1.2 GB of 138.0 GB`."""
        if self.total is None:
            return format_count(self.done, self.unit)
        done = format_count(self.done, self.unit)
        return f"{done.removesuffix(f' {self.unit}')} of {format_count(self.total, self.unit)}"

    def describe_rate(self) -> str:
        """Return `20 images/s`; nothing before there is a rate."""
        return "" if self.rate is None else f"{format_count(round(self.rate), self.rate_unit or self.unit)}/s"

    def as_fields(self) -> dict[str, str | int | float | None]:
        """Return the numbers for a JSON line: `images`, `total`, `images_per_second`, `eta_seconds`."""
        numbers: dict[str, str | int | float | None] = {"activity": self.what, self.unit: self.done}
        numbers["total"] = self.total
        numbers[f"{self.rate_unit or self.unit}_per_second"] = None if self.rate is None else round(self.rate, 3)
        numbers["eta_seconds"] = None if self.seconds_left is None else round(self.seconds_left, 1)
        return numbers | dict(self.fields)


@dataclass
class Stage:
    """A stage of the chain, as far as a run is with it.

    Attributes:
        name: of its pipeline.
        nodes: to run.
        done: nodes that ended well.
        seconds: that these took.
        node: the node that runs, "" for none.
        node_started: by `time.monotonic`.
    """

    name: str
    nodes: int
    done: int = 0
    seconds: float = 0.0
    node: str = ""
    node_started: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether all of its nodes ended well."""
        return self.done == self.nodes


class View(Protocol):
    """Shows what goes on in a process; may be called from any thread."""

    def show(self, progress: Progress) -> None:
        """Show how far a piece of work is; called as often as it likes to tell."""

    def end(self, what: str) -> None:
        """Show no longer what `Progress.what` names: it is done, or was given up."""

    def tell_evaluation(self, text: str) -> None:
        """Show the result of the last evaluation; the log has it already."""

    def open_run(self, stages: list[Stage], places: Mapping[str, str]) -> None:
        """Show the stages, which change from now on, and where to look for more, by title."""

    def close_run(self) -> None:
        """Leave the terminal as the run leaves it; may be called again."""


class ProgressLines:
    """Writes a line to the log every few seconds, and sometimes that a node still runs where nothing else says so."""

    def __init__(self, seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds_between_lines
        self._next: dict[str, float] = {}
        self._last_line = time.monotonic()
        self._ended = threading.Event()

    def show(self, progress: Progress) -> None:
        """Log it, unless the last line about it, or its beginning, is not long ago."""
        now = time.monotonic()
        if now < self._next.setdefault(progress.what, now + self._seconds):
            return
        self._next[progress.what] = now + self._seconds
        self._last_line = now
        logger.info("%s", progress.describe(), extra={"fields": progress.as_fields(), **DRAWN})

    def end(self, what: str) -> None:
        """Let the next work of this name begin anew."""
        self._next.pop(what, None)

    def tell_evaluation(self, text: str) -> None:
        """Show nothing: the log has it."""

    def open_run(self, stages: list[Stage], places: Mapping[str, str]) -> None:
        """Begin to watch for silence; whoever knows the stages writes a line when one begins or ends."""
        self._ended.clear()
        threading.Thread(target=self._watch, args=(stages,), name="progress-lines", daemon=True).start()

    def close_run(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self, stages: list[Stage]) -> None:
        while not self._ended.wait(self._seconds):
            self.break_silence(stages)

    def break_silence(self, stages: list[Stage]) -> None:
        """Log which node runs where nothing was logged of any progress for a while."""
        now = time.monotonic()
        silence = _SILENT_INTERVALS * self._seconds
        for stage in stages:
            if stage.node and now - max(self._last_line, stage.node_started) >= silence:
                self._last_line = now
                seconds = now - stage.node_started
                fields = {"activity": stage.node, "seconds": round(seconds, 1)}
                logger.info(
                    "%s still runs, for %s now",
                    stage.node,
                    format_duration(seconds),
                    extra={"fields": fields, **DRAWN},
                )


_view: View = ProgressLines()


def current_view() -> View:
    """Return where progress is shown."""
    return _view


@contextlib.contextmanager
def showing_in(view: View) -> Iterator[None]:
    """Show progress in `view` while the block runs, and close the view's run then."""
    global _view  # noqa: PLW0603 - a process has one terminal
    previous, _view = _view, view
    try:
        yield
    finally:
        view.close_run()
        _view = previous


@contextlib.contextmanager
def show_progress(total: int, *, what: str = "reading images", unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Give a function that takes the number of images, or of another unit, that were done since its last call."""
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
    """Show that something goes on of which nobody can say how far it is."""
    view = current_view()
    view.show(Progress(what=what, unit=""))
    try:
        yield
    finally:
        view.end(what)


def format_count(count: int, unit: str) -> str:
    """Return `1000 images`, `1.2 GB`, or the number alone where there is no unit."""
    if unit != "bytes":
        return f"{count} {unit}".rstrip()
    size = float(count)
    for name in ("bytes", "kB", "MB", "GB", "TB"):
        if size < _KILO or name == "TB":
            break
        size /= _KILO
    return f"{size:.0f} {name}" if name == "bytes" else f"{size:.1f} {name}"


def format_duration(seconds: float) -> str:
    """Return `0:07`, `3:21` or `1:02:03`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
