"""Which log handlers a process has: one for the standard error stream, and one for the log file of a run."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs.formats import SHOWN_ELSEWHERE, JsonFormatter, LineFormatter, Mask
from resnet50_pipeline.logs.log_file import RunLogHandler, prune_log_files
from resnet50_pipeline.logs.place import Place, PlaceFilter, place
from resnet50_pipeline.logs.secrets import make_mask
from resnet50_pipeline.parameters import LogParameters
from resnet50_pipeline.progress import ProgressLines, View, showing_in

IN_STREAM = "stream"
"""`SHOWN_ELSEWHERE` of what text streams get in another form: the summary, the final error."""
FILE_ONLY = "streams"
"""`SHOWN_ELSEWHERE` of what is in the log file alone, for it comes again."""
IN_VIEW = "view"
"""`SHOWN_ELSEWHERE` of what a terminal's view draws: stages, nodes, progress."""


@dataclass
class RunLog:
    """How this process logs.

    Attributes:
        is_json: JSON lines, and no text beside them.
        is_quiet: nothing but warnings and errors, the file apart.
        mask: puts `***` in the place of secrets.
        file: of this run; None where none is written.
        has_traceback: whether the traceback of the error that ends the run is in the file already.
    """

    is_json: bool = False
    is_quiet: bool = False
    mask: Mask = str
    file: RunLogHandler | None = None
    has_traceback: bool = False

    @property
    def path(self) -> Path | None:
        """The log file, as short as it can be typed."""
        if self.file is None:
            return None
        path, here = self.file.path.absolute(), Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path

    def take_session(self, session: str) -> None:
        """Let the log file bear the name of the session, which every record names from now on."""
        place.session = session
        if self.file is not None:
            self.file.take_name(session)


_current = RunLog()


def current_log() -> RunLog:
    """Return how this process logs; plain text and no file where nothing was set up."""
    return _current


@contextlib.contextmanager
def logging_run(parameters: LogParameters, *, is_quiet: bool) -> Iterator[RunLog]:
    """Log as `parameters` say, to the standard error stream and to a file of the run.

    Raises:
        ParameterError: the log file cannot be written.
    """
    global _current  # noqa: PLW0603 - a process has one set of log handlers
    previous, root = _current, logging.getLogger()
    mask = make_mask(os.environ)
    is_json = parameters.format == "json"
    lines = ProgressLines(parameters.progress_interval_seconds)
    view, stream = _stream_handler(lines, mask, is_json=is_json, is_quiet=is_quiet)
    run_log = RunLog(is_json, is_quiet, mask)
    if parameters.directory is not None:
        try:
            run_log.file = RunLogHandler(parameters.directory)
        except OSError as error:
            raise ParameterError(
                f"logs.directory: no log file can be written to {parameters.directory}: {error.strerror} → set it to "
                "another folder, or to null"
            ) from error
        run_log.file.addFilter(PlaceFilter())
        run_log.file.setFormatter(JsonFormatter(mask) if is_json else LineFormatter(mask, with_traceback=True))
        prune_log_files(parameters.directory, parameters.keep_files)
    handlers = [stream] if run_log.file is None else [stream, run_log.file]
    before, root.handlers = root.handlers, handlers
    _current = run_log
    vars(place).update(vars(Place()))
    try:
        with showing_in(view):
            yield run_log
    finally:
        _current, root.handlers = previous, before
        if run_log.file is not None:
            run_log.file.close()


def log_to_terminal_or_lines() -> None:
    """Log to the standard error stream for the rest of this process, as a command does that has no log file."""
    view, stream = _stream_handler(ProgressLines(), make_mask(os.environ), is_json=False, is_quiet=False)
    logging.getLogger().handlers = [stream]
    contextlib.ExitStack().enter_context(showing_in(view))


def is_in_terminal() -> bool:
    """Return whether the standard error stream is a terminal that can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def _stream_handler(lines: ProgressLines, mask: Mask, *, is_json: bool, is_quiet: bool) -> tuple[View, logging.Handler]:
    """Return what shows progress, and the handler of the standard error stream."""
    view: View = lines
    handler: logging.Handler
    hidden = [FILE_ONLY] if is_json else [FILE_ONLY, IN_STREAM]
    if is_json:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter(mask))
    elif is_quiet or not is_in_terminal():
        handler = logging.StreamHandler()
        handler.setFormatter(LineFormatter(mask, with_traceback=False))
    else:
        from rich.console import Console

        from resnet50_pipeline.logs.terminal import TerminalHandler, TerminalView

        view = terminal = TerminalView(Console(stderr=True, highlight=False), lines)
        handler = TerminalHandler(terminal.console, mask)
        hidden.append(IN_VIEW)
    handler.addFilter(PlaceFilter())
    handler.addFilter(lambda record: getattr(record, SHOWN_ELSEWHERE, None) not in hidden)
    handler.addFilter(_says_something)
    if is_quiet:
        handler.setLevel(logging.WARNING)
    return view, handler


def _says_something(record: logging.LogRecord) -> bool:
    """Drop what Kedro says of a run that ends before its first node: the error says what to do."""
    return not (record.name.startswith("kedro.runner") and str(record.msg).startswith("No nodes ran."))
