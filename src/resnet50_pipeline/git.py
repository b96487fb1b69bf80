"""The state of the source code that a run was made with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NO_COMMIT = "none"
# Names the commit for a build that does not see the repository (setup.py, Dockerfile): `4f0c…` or `4f0c…-dirty`.
COMMIT_VARIABLE = "SOURCE_COMMIT"
# Written into wheels by setup.py.
_BUILT_OF = Path(__file__).with_name("COMMIT")
_DIRTY = "-dirty"
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

    def __str__(self) -> str:
        """Return `4f0c…` or `4f0c…-dirty`."""
        return f"{self.commit}{_DIRTY if self.is_dirty else ''}"

    @property
    def has_commit(self) -> bool:
        """Whether there is a commit to name."""
        return self.commit != NO_COMMIT


def describe_git(folder: Path, built_of: Path = _BUILT_OF) -> GitState:
    """Return the commit of `folder` and whether the files are as committed.

    Of a package that was built as a wheel it is the commit that it was built of, wherever it runs: the repository that
    a working folder may lie in is another one. `built_of` is the file that says so, and that no source tree has.

    dvc.lock does not count: it is a result, which `dvc repro` writes after every stage, and so before the next one.
    """
    if built_of.is_file():
        words = built_of.read_text(encoding="utf-8").strip()
        return GitState(words.removesuffix(_DIRTY), is_dirty=words.endswith(_DIRTY))
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
