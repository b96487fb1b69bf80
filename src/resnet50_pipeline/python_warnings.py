"""Keeps `PYTHONWARNINGS=error` from stopping a command at the first warning from a library."""

from __future__ import annotations

import sys
import warnings

_ERROR = "error"


def show_warnings_of_libraries() -> None:
    """If all warnings are turned into errors, show them as warnings instead, and say so once.

    Merely importing MLflow and other libraries triggers warnings that users cannot fix. Settings for one module, such
    as `error::UserWarning:resnet50_pipeline`, are kept. Kedro calls this before every command (entry point
    `kedro.init`).
    """
    if any(_is_error_everywhere(option) for option in sys.warnoptions):
        warnings.simplefilter("default")
        print(
            "PYTHONWARNINGS or -W turns warnings into errors, which would break libraries; they are shown as warnings "
            "instead",
            file=sys.stderr,
        )


def _is_error_everywhere(option: str) -> bool:
    """Return whether an option, `action:message:category:module:line`, turns warnings in all modules into errors."""
    action, *_ = parts = option.split(":")
    return bool(action) and _ERROR.startswith(action) and not any(parts[3:4])
