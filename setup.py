"""Writes into a wheel which commit it was built of; everything else about the package stands in pyproject.toml."""

import os
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


def find_commit() -> str:
    """Return $SOURCE_COMMIT, or what git says: `4f0c…`, `4f0c…-dirty`, or `none-dirty` where there is no repository."""
    if given := os.environ.get("SOURCE_COMMIT"):
        return given
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none-dirty"
    return done.stdout.strip()


class BuildWithCommit(build_py):
    """`build_py`, and the file COMMIT beside the package's modules: in what is built, never in the source."""

    def run(self) -> None:
        """Build; an editable installation is the source itself, so git is asked at run time there."""
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, "resnet50_pipeline", "COMMIT").write_text(f"{find_commit()}\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildWithCommit})
