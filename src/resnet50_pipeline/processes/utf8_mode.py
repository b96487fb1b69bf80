"""Restarts a command in Python's UTF-8 mode if the locale uses another encoding for file names."""

from __future__ import annotations

import os
import sys


def ensure_utf8_mode() -> None:
    """Restart this program in UTF-8 mode unless Python already reads file names as UTF-8.

    In a Latin-1 locale, Python would read the UTF-8 folder name `ñandú` as `Ã±andÃº`, and lists would contain that
    wrong name. The output keeps the terminal's encoding.
    """
    if sys.getfilesystemencoding().lower().replace("-", "") == "utf8":
        return
    output = f"{sys.stdout.encoding}:backslashreplace"
    environment = {"PYTHONIOENCODING": output, **os.environ, "PYTHONUTF8": "1"}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - the same program
