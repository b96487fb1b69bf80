"""Draws the live view of a run in a terminal: stages, current activity, last evaluation, log file and MLflow.

     ✓ data_validation       0:14
     ▶ training              3:21  train_network
       ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━━━━   42%   1:55 left
       epoch 3/8 · loss 0.412 · train top-1 88.1% · 34 images/s
       evaluation
    last evaluation   epoch 2: top-1 91.33%, top-5 99.10% on 600 images
    log               data/sample/09_logs/2026-11-24T17.00.00.000Z.log

Log messages scroll above the view.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resnet50_pipeline.logs.formats import LineFormatter, Mask
from resnet50_pipeline.progress import Progress, ProgressLines, Stage
from resnet50_pipeline.text import format_clock

_REFRESHES_PER_SECOND = 2
# Terminals with fewer lines show only the running stage.
_MIN_LINES_FOR_ALL_STAGES = 18
_SEPARATOR = " · "


class TerminalView:
    """A `progress.View` that redraws the bottom lines of a terminal while activities are running."""

    def __init__(self, console: Console, lines: ProgressLines) -> None:
        """Draw on `console`, and log the same progress to the log file through `lines`."""
        self.console = console
        self._lines = lines
        self._live: Live | None = None
        self._work: dict[str, Progress] = {}
        self._stages: list[Stage] = []
        self._places: Mapping[str, str] = {}
        self._evaluation = ""
        self._lock = threading.RLock()

    def show(self, progress: Progress) -> None:
        """Draw a progress bar, or the name of the activity if its length is unknown."""
        self._lines.show(progress)
        with self._lock:
            self._work[progress.what] = progress
            if self._live is None:
                self._start()

    def end(self, what: str) -> None:
        """Remove the activity from the view."""
        self._lines.end(what)
        with self._lock:
            self._work.pop(what, None)
            if not self._work and not self._stages:
                self._stop()

    def show_evaluation(self, text: str) -> None:
        """Show an evaluation result until the next evaluation."""
        self._evaluation = text

    def open_run(self, stages: list[Stage], places: Mapping[str, str]) -> None:
        """Show the stages and the paths or URLs in `places` until `close_run` is called."""
        self._lines.open_run(stages, places)
        with self._lock:
            self._stages, self._places = stages, places
            self._start()

    def close_run(self) -> None:
        """Stop drawing, but leave the stages and the last evaluation in the terminal."""
        self._lines.close_run()
        with self._lock:
            self._work.clear()
            self._places = {}  # the summary or the error message repeats these paths
            self._stop()
            self._stages = []

    def _start(self) -> None:
        if self._live is None:
            self._live = Live(
                get_renderable=self.render,
                console=self.console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=not self._stages,
                # Let output from libraries scroll above the view, unless stdout is a pipe.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start(refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def render(self) -> RenderableType:
        """Return the current content of the view."""
        width = self.console.width
        rows: list[RenderableType] = []
        is_low = self.console.height < _MIN_LINES_FOR_ALL_STAGES
        work = list(self._work.values())
        for stage in self._stages:
            if stage.node or not is_low:
                rows.append(_stage_line(stage))
            if stage.node:
                rows += [line for one in work for line in _work_lines(one, width)]
                work = []
        rows += [line for one in work for line in _work_lines(one, width)]
        notes = {"last evaluation": self._evaluation} if self._evaluation else {}
        if self._stages:
            notes |= dict(self._places)
        if notes:
            rows.append(_notes(notes))
        return Group(*rows)


class TerminalHandler(logging.Handler):
    """Prints log messages above the view: `17:00:00 message`, with warnings and errors in color."""

    def __init__(self, console: Console, mask: Mask) -> None:
        super().__init__()
        self._console, self._mask = console, mask
        self._formatter = LineFormatter(mask, with_traceback=False, layout="%(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as one line and let the terminal wrap it, so that a command can be copied in one piece."""
        parts: list[str | tuple[str, str]] = [(f"{datetime.fromtimestamp(record.created):%H:%M:%S} ", "dim")]
        if record.levelno >= logging.WARNING:
            style = "bold red" if record.levelno >= logging.ERROR else "yellow"
            parts.append((f"{record.levelname.lower()}: ", style))
        self._console.print(Text.assemble(*parts, self._formatter.format(record)), soft_wrap=True)


def _stage_line(stage: Stage) -> Text:
    seconds = stage.seconds + (time.monotonic() - stage.node_started if stage.node else 0.0)
    has_begun = bool(stage.node or stage.done)
    if stage.is_done:
        sign, style = "✓", "green"
    elif stage.node:
        sign, style = "▶", "bold"
    else:
        sign, style = "…" if has_begun else " ", "dim"
    line = Text.assemble((f" {sign} ", style), (f"{stage.name:<19}", style), no_wrap=True, overflow="ellipsis")
    if has_begun:
        line.append(f"{format_clock(seconds):>8}", "" if stage.node else "dim")
    if stage.node:
        line.append(f"  {stage.node}", "cyan")
    return line


def _work_lines(progress: Progress, width: int) -> list[RenderableType]:
    figures = [f"{name} {value}" for name, value in progress.figures.items()]
    if progress.total is None:
        count = "" if not progress.done else progress.describe_count()
        parts = [part for part in (progress.what, count, *figures, progress.describe_rate()) if part]
        return [_indented(_SEPARATOR.join(parts))]
    bar = Table.grid(padding=(0, 1, 0, 0))
    bar.add_column(width=2)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    bar.add_column(justify="right", no_wrap=True)
    bar.expand, bar.width = True, width - 1
    share = progress.done / progress.total if progress.total else 1.0
    left = "" if progress.seconds_left is None else f"{format_clock(progress.seconds_left)} left"
    bar.add_row("", ProgressBar(total=max(progress.total, 1), completed=progress.done), f"{share:4.0%}", left)
    parts = figures if progress.figures else [progress.what, progress.describe_count()]
    parts = [part for part in (*parts, progress.describe_rate()) if part]
    return [bar, _indented(_SEPARATOR.join(parts))]


def _indented(text: str) -> Text:
    return Text(f"   {text}", no_wrap=True, overflow="ellipsis")


def _notes(notes: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for title, text in notes.items():
        table.add_row(f" {title}", Text(text))
    return table
