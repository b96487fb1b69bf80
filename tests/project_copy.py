"""The project as another folder has it: code and configuration, and nothing that this machine has added."""

from __future__ import annotations

import shutil
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def copy_project(root: Path) -> None:
    """Copy what the chain needs of the project, and nothing that this machine has added to it."""
    for name in ("src", "conf"):
        shutil.copytree(
            PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "local", "*.egg-info")
        )
    shutil.copy(PROJECT / "pyproject.toml", root)
    (root / "conf" / "local").mkdir()
    (root / "home").mkdir()
