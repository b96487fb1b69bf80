"""Finds the name of the user who runs this process."""

from __future__ import annotations

import getpass


def user_name() -> str:
    """Return the user name, or `unknown` if the user has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
