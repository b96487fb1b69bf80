"""The state of the source code that a run was made with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NO_COMMIT = "none"
_SOURCE = (":/", ":(top,exclude,glob)**/dvc.lock")


@dataclass(frozen=True)
class GitState:
    """What git says of a folder.

    Attributes:
        commit: full hash of HEAD; `none` outside a repository, before the first commit, or without git.
        is_dirty: whether files differ from that commit, or are new and not ignored; dvc.lock apart.
    """

    commit: str
    is_dirty: bool

    @property
    def has_commit(self) -> bool:
        """Whether there is a commit to name."""
        return self.commit != NO_COMMIT


def describe_git(folder: Path) -> GitState:
    """Return the commit of `folder` and whether the files are as committed.

    dvc.lock does not count: it is a result, which `dvc repro` writes after every stage, and so before the next one.
    """
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return GitState(NO_COMMIT, is_dirty=True)
    return GitState(commit, is_dirty=_git(folder, "status", "--porcelain", "--", *_SOURCE) != "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
