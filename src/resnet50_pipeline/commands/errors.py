"""One clear message an error, and honest exit codes."""

from __future__ import annotations

import contextlib
import logging
import signal
import traceback
from collections.abc import Iterator

import click
from kedro.config import MissingConfigException
from kedro.validation.exceptions import ParameterValidationError

from resnet50_pipeline.commands.parameter_errors import describe_wrong_parameters
from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.interruption import received_interruption, signals_interrupt
from resnet50_pipeline.logs.formats import SHOWN_ELSEWHERE
from resnet50_pipeline.logs.place import place
from resnet50_pipeline.logs.set_up import IN_STREAM, current_log
from resnet50_pipeline.progress import current_view

logger = logging.getLogger(__name__)

_EXPECTED_ERRORS = (PipelineError, ParameterValidationError, MissingConfigException)


@contextlib.contextmanager
def ending_clearly(context: click.Context, *, verbose: bool = False) -> Iterator[None]:
    """Let the block be ended by SIGINT and SIGTERM, and turn what a user can mend into one message on stderr.

    Ends the command with the error's exit code, 130 or 143 after a signal; any other error passes through, or becomes
    a JSON line where the log is made of these. The log file has the traceback of either.
    """
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
        cause = None if log.has_traceback else error
        logger.log(logging.ERROR, "%s", message, exc_info=cause, extra={SHOWN_ELSEWHERE: IN_STREAM})
        # The error comes last; before the first node, and after a signal, it says all.
        may_help = expected is None or (place.stage and received_interruption() is None)
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
    """Return the first error of the `__cause__` chain whose message alone says what to do, or None.

    Kedro wraps what a dataset raises in its own DatasetError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _EXPECTED_ERRORS):
            return cause
        cause = cause.__cause__
    return None


def describe_error(error: Exception) -> str:
    """Return the message of an error, with what pydantic says of parameters in this project's words."""
    return describe_wrong_parameters(str(error))
