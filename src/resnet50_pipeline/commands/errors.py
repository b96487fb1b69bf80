"""Reports errors as a single message with the matching exit code."""

from __future__ import annotations

import contextlib
import logging
import signal
import traceback
from collections.abc import Iterator

import click
from kedro.config import MissingConfigException
from kedro.validation.exceptions import ParameterValidationError

from resnet50_pipeline.commands.parameter_errors import describe_invalid_parameters
from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.logs.context import log_context
from resnet50_pipeline.logs.formats import SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import IN_STREAM, current_log
from resnet50_pipeline.logs.streams import survive_closed_terminal
from resnet50_pipeline.processes.interruption import received_interruption, signals_interrupt
from resnet50_pipeline.processes.utf8_mode import ensure_utf8_mode
from resnet50_pipeline.progress import current_view

logger = logging.getLogger(__name__)

_EXPECTED_ERRORS = (PipelineError, ParameterValidationError, MissingConfigException)


@contextlib.contextmanager
def reporting_errors(
    context: click.Context, *, verbose: bool = False, result_in_stdout: bool = False
) -> Iterator[None]:
    """Stop the block on a signal, and report errors that the user can fix as a single message on stderr.

    The command exits with the error's exit code, or with 129, 130 or 143 after SIGHUP, SIGINT or SIGTERM. Unexpected
    errors are raised again, or logged as a JSON line if the log format is JSON. The traceback always goes to the log
    file. A closed terminal does not change the exit code.
    """
    ensure_utf8_mode()
    survive_closed_terminal(result_in_stdout=result_in_stdout)
    try:
        with signals_interrupt():
            yield
    except KeyboardInterrupt:
        context.exit(128 + signal.SIGINT)
    except click.exceptions.Exit:
        raise
    except Exception as error:
        current_view().close_run()
        expected = received_interruption() or find_expected_error(error)
        message = describe_error(error if expected is None else expected)
        if expected is None:
            message = f"{type(error).__name__}: {message}"
        log = current_log()
        # Without a log file, stderr alone gets the message, below. A command that fails before it sets up its log still
        # has Kedro's handlers, which would print the traceback too.
        if log.file is not None or log.is_json:
            cause = None if log.has_traceback else error
            logger.log(logging.ERROR, "%s", message, exc_info=cause, extra={SHOWN_ELSEWHERE: IN_STREAM})
        # Print the log's path before the error message. Before the first node and after a signal, the message alone is
        # enough.
        may_help = expected is None or (log_context.stage and received_interruption() is None)
        if may_help and log.path is not None and not log.is_json:
            click.echo(f"log: {log.path}", err=True)
        if expected is not None and not log.is_json:
            if verbose or logging.getLogger("resnet50_pipeline").isEnabledFor(logging.DEBUG):
                traceback.print_exception(error)
            click.echo(click.style("error: ", fg="red", bold=True) + log.mask(message), err=True)
        if expected is None and not log.is_json:
            raise
        context.exit(getattr(expected, "exit_code", 1))


def find_expected_error(error: BaseException) -> Exception | None:
    """Return the first error in the `__cause__` chain that the user can fix, or None.

    Kedro wraps errors raised by datasets in its own DatasetError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _EXPECTED_ERRORS):
            return cause
        cause = cause.__cause__
    return None


def describe_error(error: Exception) -> str:
    """Return the message of an error, rewriting pydantic's messages about parameters."""
    return describe_invalid_parameters(str(error))
