"""Prepares every `kedro` command, even outside a project (entry point `kedro.init`)."""

from __future__ import annotations

import sys

from resnet50_pipeline.python_warnings import show_warnings_of_libraries
from resnet50_pipeline.telemetry import turn_off_telemetry

_PACKAGE = __name__.partition(".")[0]
_OWN = {_PACKAGE, __name__, f"{_PACKAGE}.python_warnings", f"{_PACKAGE}.telemetry"}


def prepare_command() -> None:
    """Turn off telemetry, and show warnings from libraries.

    Kedro calls this before it looks for a project. The project in the current folder may be a different clone than the
    installed package, so let Kedro import the package again from the project's `src`.
    """
    turn_off_telemetry()
    show_warnings_of_libraries()
    loaded = {name for name in sys.modules if name.partition(".")[0] == _PACKAGE}
    if loaded <= _OWN:
        for name in loaded:
            del sys.modules[name]
