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

from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.interruption import received_interruption, signals_interrupt

_EXPECTED_ERRORS = (PipelineError, ParameterValidationError, MissingConfigException)


@contextlib.contextmanager
def ending_clearly(context: click.Context, *, verbose: bool = False) -> Iterator[None]:
    """Let the block be ended by SIGINT and SIGTERM, and turn what a user can mend into one message on stderr.

    Ends the command with the error's exit code, 130 or 143 after a signal; any other error passes through.
    """
    try:
        with signals_interrupt():
            yield
    except KeyboardInterrupt:
        context.exit(128 + signal.SIGINT)
    except click.exceptions.Exit:
        raise
    except Exception as error:
        expected = received_interruption() or find_expected_error(error)
        if expected is None:
            raise
        if verbose or logging.getLogger("resnet50_pipeline").isEnabledFor(logging.DEBUG):
            traceback.print_exception(error)
        click.echo(click.style("error: ", fg="red", bold=True) + describe_error(expected), err=True)
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
    """Return the message of an expected error, without the lines in which pydantic points to its web site."""
    lines = str(error).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("For further information visit"))
