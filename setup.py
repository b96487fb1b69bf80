"""Writes the commit of the source into the wheel. All other settings of the package are in pyproject.toml."""

import os
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def find_commit() -> str:
    """Return $SOURCE_COMMIT, or the state of the source: `4f0c…`, `4f0c…-dirty`, or `none-dirty` without a repository.

    The build environment does not contain the dependencies of the package, so the package cannot be imported. git.py
    has no dependencies.
    """
    git = runpy.run_path(str(ROOT / "src" / "resnet50_pipeline" / "git.py"))
    return os.environ.get(git["COMMIT_VARIABLE"]) or str(git["describe_git"](ROOT))


class BuildWithCommit(build_py):
    """Runs `build_py` and adds the file COMMIT to the built package, but not to the source."""

    def run(self) -> None:
        """Build the package. An editable installation has no COMMIT file; it reads the commit from git at run time."""
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, "resnet50_pipeline", "COMMIT").write_text(f"{find_commit()}\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildWithCommit})
