"""Builds the commands that messages suggest.

Users can run these commands as printed, regardless of how this process was started.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PROGRAMS = frozenset({"kedro", "resnet50-pipeline"})
_MODULES = frozenset({"kedro", "resnet50_pipeline"})
_RUN = "run"
_ENVIRONMENT = "KEDRO_ENV"
_ENVIRONMENT_OPTIONS = ("--env", "-e")
_KEPT_FOR_OTHER_COMMANDS = (*_ENVIRONMENT_OPTIONS, "--conf-source")
# Options of every command with the same configuration.
_CONFIGURATION_OPTIONS = (*_KEPT_FOR_OTHER_COMMANDS, "--params")
_PIPELINE_OPTIONS = ("--pipelines", "--pipeline", "-p")


def resume_command(arguments: Sequence[str] | None = None, original: Sequence[str] | None = None) -> str:
    """Return the command that resumes this training run. The arguments are the same as for `repeat_command`."""
    return repeat_command("--params", "training.resume=true", arguments=arguments, original=original)


def repeat_command(
    *added: str,
    arguments: Sequence[str] | None = None,
    original: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return the `kedro run` command that started this process, with additional options that override existing options.

    If this process was started by another command (such as `kedro predict`) or another program (such as a notebook),
    return a new `kedro run` command.

    Args:
        added: options to add, such as `--pipelines`, `training`.
        arguments: arguments of the Python program. Defaults to `sys.argv`.
        original: original command line, including the interpreter. Defaults to `sys.orig_argv`.
        environment: environment variables.
    """
    given = list((sys.argv if arguments is None else arguments)[1:])
    typed = list(sys.orig_argv if original is None else original)
    program = _find_program(typed[: len(typed) - len(given)])
    if program is None:
        program, given = ["kedro"], [_RUN]
    elif given and given[0] != _RUN and not given[0].startswith("-"):
        given = [_RUN, *_split_options(given, _KEPT_FOR_OTHER_COMMANDS)[0]]
    if added[:1] == ("--pipelines",):
        _, given = _split_options(given, _PIPELINE_OPTIONS)
    if tuple(given[-len(added) :]) != added:
        given += added
    return _join(program, given, environment)


def other_command(
    *words: str,
    arguments: Sequence[str] | None = None,
    original: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return another command for the environment, the configuration folder and the parameters of this process.

    Args:
        words: the command and its arguments, such as `data-fix`, `fixes.csv`.
        arguments: arguments of the Python program. Defaults to `sys.argv`.
        original: original command line, including the interpreter. Defaults to `sys.orig_argv`.
        environment: environment variables.
    """
    given = list((sys.argv if arguments is None else arguments)[1:])
    typed = list(sys.orig_argv if original is None else original)
    program = _find_program(typed[: len(typed) - len(given)])
    kept = [] if program is None else _split_options(given, _CONFIGURATION_OPTIONS)[0]
    return _join(program or ["kedro"], [*words, *kept], environment)


def _join(program: Sequence[str], given: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the words as one shell command, with KEDRO_ENV unless an option sets the environment."""
    name = environment.get(_ENVIRONMENT)
    has_option = bool(_split_options(given, _ENVIRONMENT_OPTIONS)[0])
    prefix = f"{_ENVIRONMENT}={shlex.quote(name)} " if name and not has_option else ""
    return prefix + shlex.join([*program, *given])


def _find_program(start: Sequence[str]) -> list[str] | None:
    """Return the words that start Kedro, such as `kedro` or `python -m kedro`, or None for another program."""
    if "-m" in start[:-1]:
        return list(start) if start[-1] in _MODULES else None
    path = Path(start[-1]) if start else Path()
    if path.name not in _PROGRAMS:
        return None
    # If the virtual environment is not activated, the shell cannot find the program by name alone.
    found = shutil.which(path.name)
    is_in_path = found is not None and path.exists() and path.samefile(found)
    return [path.name if is_in_path else str(path)]


def _split_options(arguments: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into the options with the given names, including their values, and all other arguments."""
    found: list[str] = []
    others: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        length = 2 if argument in names else 1
        is_named = length == 2 or argument.startswith(tuple(f"{name}=" for name in names))
        (found if is_named else others).extend(arguments[position : position + length])
        position += length
    return found, others
