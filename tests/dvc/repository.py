"""A small git repository with this project's DVC settings, for tests that do not run pipelines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


class Repository:
    """A git and DVC repository with this project's settings and ignore patterns."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path) -> Repository:
        """Create a repository with the project's .dvc/config, .dvcignore and .gitignore."""
        repository = cls(root)
        root.mkdir(parents=True)
        repository.git("init", "--quiet")
        for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "data/README.md"):
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name, root / name)
        repository.commit("settings")
        return repository

    def clone_to(self, root: Path) -> Repository:
        """Return a git clone."""
        subprocess.run(["git", "clone", "--quiet", str(self.root), str(root)], check=True)
        return Repository(root)

    def dvc(self, *arguments: str) -> str:
        """Run this environment's DVC and return its output."""
        environment = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.root / ".dvc/tmp/site")}
        return self._run([sys.executable, "-m", "dvc", *arguments], environment)

    def git(self, *arguments: str) -> str:
        """Run git and return its output."""
        who = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return self._run(["git", *arguments], who)

    def commit(self, message: str) -> None:
        """Commit all changes."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        result = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout
