"""Installs a process's log handlers: one for stderr and one for the run's log file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs.context import ContextFilter, LogContext, log_context
from resnet50_pipeline.logs.formats import SHOWN_ELSEWHERE, JsonFormatter, LineFormatter, Mask
from resnet50_pipeline.logs.log_file import RunLogHandler, prune_log_files
from resnet50_pipeline.logs.metrics_file import MetricsFile
from resnet50_pipeline.logs.secrets import make_mask
from resnet50_pipeline.parameters import LogParameters
from resnet50_pipeline.progress import ProgressLines, View, set_view, showing_in

IN_STREAM = "stream"
"""`SHOWN_ELSEWHERE` value for messages that are printed in another form too: the summary and the final error."""
FILE_ONLY = "streams"
"""`SHOWN_ELSEWHERE` value for messages that go only to the log file, because stderr gets its own record."""
IN_VIEW = "view"
"""`SHOWN_ELSEWHERE` value for messages that the terminal view shows: stages, nodes and progress."""


# Resuming from this node is pointless: it reads only the validation report, and would stop at the same findings.
_STOPPING_NODE = "stop_on_blocking_findings"


@dataclass
class RunLog:
    """The process's log settings.

    Attributes:
        is_json: whether stderr gets JSON lines and nothing else.
        is_quiet: whether stderr gets only warnings and errors; the log file gets everything.
        mask: function that replaces secrets with `***`.
        file: handler for the log file; None if there is no file.
        metrics: file with the latest values of a training run; None if there is no file.
        has_traceback: whether the log file already contains the traceback of the error that ends the run.
    """

    is_json: bool = False
    is_quiet: bool = False
    mask: Mask = str
    file: RunLogHandler | None = None
    metrics: MetricsFile | None = None
    has_traceback: bool = False

    @property
    def path(self) -> Path | None:
        """Path of the log file, relative to the current folder if the file is inside that folder."""
        if self.file is None:
            return None
        path, here = self.file.path.absolute(), Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path

    def set_session(self, session: str) -> None:
        """Add the session to all subsequent records, and rename the log file to the session."""
        log_context.session = session
        if self.file is not None:
            self.file.rename_to_session(session)


_current = RunLog()


def current_log() -> RunLog:
    """Return the process's log settings, which default to plain text without a file."""
    return _current


@contextlib.contextmanager
def logging_run(parameters: LogParameters, *, is_quiet: bool) -> Iterator[RunLog]:
    """Log to stderr and to a run's log file.

    Raises:
        ParameterError: if the log file or the metrics file cannot be created.
    """
    global _current  # noqa: PLW0603 - a process has one set of log handlers
    previous, root = _current, logging.getLogger()
    mask = make_mask(os.environ)
    is_json = parameters.format == "json"
    lines = ProgressLines(parameters.progress_interval_seconds)
    view, stream = _stream_handler(lines, mask, is_json=is_json, is_quiet=is_quiet)
    run_log = RunLog(is_json, is_quiet, mask)
    if parameters.metrics_file is not None:
        run_log.metrics = MetricsFile(parameters.metrics_file, parameters.progress_interval_seconds)
    if parameters.directory is not None:
        try:
            run_log.file = RunLogHandler(parameters.directory)
        except OSError as error:
            raise ParameterError(
                f"logs.directory: cannot create a log file in {parameters.directory}: {error.strerror} → choose "
                "another folder, or set it to null to write no log file"
            ) from error
        run_log.file.addFilter(ContextFilter())
        run_log.file.setFormatter(JsonFormatter(mask) if is_json else LineFormatter(mask, with_traceback=True))
        prune_log_files(parameters.directory, parameters.keep_files)
    handlers = [stream] if run_log.file is None else [stream, run_log.file]
    before, root.handlers = root.handlers, handlers
    _current = run_log
    vars(log_context).update(vars(LogContext()))
    try:
        with showing_in(view):
            yield run_log
    finally:
        _current, root.handlers = previous, before
        if run_log.file is not None:
            run_log.file.close()


def log_to_stderr() -> None:
    """Log to stderr until the process exits. Commands without a log file use this function."""
    view, stream = _stream_handler(ProgressLines(), make_mask(os.environ), is_json=False, is_quiet=False)
    logging.getLogger().handlers = [stream]
    set_view(view)


def is_in_terminal() -> bool:
    """Return whether stderr is a terminal that supports drawing."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def _stream_handler(lines: ProgressLines, mask: Mask, *, is_json: bool, is_quiet: bool) -> tuple[View, logging.Handler]:
    """Create the progress view and the log handler for stderr."""
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
    handler.addFilter(ContextFilter())
    handler.addFilter(lambda record: getattr(record, SHOWN_ELSEWHERE, None) not in hidden)
    handler.addFilter(_is_useful)
    if is_quiet:
        handler.setLevel(logging.WARNING)
    return view, handler


def _is_useful(record: logging.LogRecord) -> bool:
    """Return False for Kedro's advice on how to resume if this advice is wrong or the error contains better advice.

    Kedro suggests `--from-nodes`, which does not resume a training run. Training errors contain a command that resumes
    the run, in the message or in a note.
    """
    if not record.name.startswith("kedro.runner"):
        return True
    hint = str(record.msg)
    if "--from-nodes" in hint:
        error = sys.exception()
        advice = "\n".join([str(error), *getattr(error, "__notes__", ())])
        return _STOPPING_NODE not in hint and "training.resume=" not in advice
    return not hint.startswith("No nodes ran.")
