"""Copies the project: code and configuration, without local results."""

from __future__ import annotations

import shutil
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def copy_project(root: Path) -> None:
    """Copy the files that the chain needs, without local results."""
    for name in ("src", "conf"):
        shutil.copytree(
            PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "local", "*.egg-info")
        )
    shutil.copy(PROJECT / "pyproject.toml", root)
    (root / "conf" / "local").mkdir()
    (root / "home").mkdir()
