"""Finds the Git commit of a run's source code."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

NO_COMMIT = "none"
# Environment variable with the commit, `4f0c…` or `4f0c…-dirty`, for builds without access to the repository (setup.py,
# Dockerfile).
COMMIT_VARIABLE = "SOURCE_COMMIT"
# setup.py adds this file to wheels.
_BUILT_OF = Path(__file__).with_name("COMMIT")
_DIRTY = "-dirty"
# Environment variable with the Git state at the start of a run. Worker processes of the run inherit it.
_START_VARIABLE = "RESNET50_PIPELINE_GIT_AT_START"
_NO_REPOSITORY = "not a git repository"
_SOURCE = (":/", ":(top,exclude,glob)**/dvc.lock")


@dataclass(frozen=True)
class GitState:
    """The Git state of a folder.

    Attributes:
        commit: full hash of HEAD, or `none` without a repository, a commit or git.
        is_dirty: whether any file other than dvc.lock differs from the commit, or is untracked and not ignored.
        problem: git's error message if git cannot read the repository, for example because another user owns the
            repository.
    """

    commit: str
    is_dirty: bool
    problem: str = ""

    def __str__(self) -> str:
        """Return the commit as text: `4f0c…`, or `4f0c…-dirty` if files have changed."""
        return f"{self.commit}{_DIRTY if self.is_dirty else ''}"

    @classmethod
    def parse(cls, text: str) -> GitState:
        """Return the state that `str` describes."""
        return cls(text.removesuffix(_DIRTY), is_dirty=text.endswith(_DIRTY))

    @property
    def has_commit(self) -> bool:
        """Whether there is a commit."""
        return self.commit != NO_COMMIT


def describe_git(folder: Path, built_of: Path = _BUILT_OF) -> GitState:
    """Return the commit of `folder`, and whether its files differ from the commit.

    In an installed wheel, the commit is in the file `built_of`; the working folder may be in an unrelated repository.
    Changes to dvc.lock are ignored, because `dvc repro` writes this file after every stage.
    """
    if built_of.is_file():
        return GitState.parse(built_of.read_text(encoding="utf-8").strip())
    found, problem = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if found is None:
        return GitState(NO_COMMIT, is_dirty=True, problem=problem)
    # status.showUntrackedFiles=no must not hide a new module.
    status, problem = _git(folder, "status", "--porcelain", "--untracked-files=normal", "--", *_SOURCE)
    return GitState(found, is_dirty=status != "", problem=problem)


def record_git(folder: Path) -> GitState:
    """Return the Git state of `folder`, and record it for `git_at_start`. Call this when a run starts."""
    state = describe_git(folder)
    os.environ[_START_VARIABLE] = json.dumps([str(folder.resolve()), asdict(state)])
    return state


def git_at_start(folder: Path) -> GitState:
    """Return the Git state of `folder` when the current run started, or the current state outside a run.

    A run can take days. Commits and new files during this time do not belong to its results.
    """
    recorded, state = json.loads(os.environ.get(_START_VARIABLE, "[null, null]"))
    return GitState(**state) if recorded == str(folder.resolve()) else describe_git(folder)


def read_git_user(folder: Path) -> str | None:
    """Return the user that git records in commits, `Ada <ada@example.org>`, or None if none is configured."""
    name, _ = _git(folder, "config", "user.name")
    email, _ = _git(folder, "config", "user.email")
    if not name:
        return None
    return f"{name} <{email}>" if email else name


def _git(folder: Path, *arguments: str) -> tuple[str | None, str]:
    """Run git. Return the output and "", or None and git's error message if git fails.

    The error message is "" if there is no repository or no commit.
    """
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except OSError as error:
        is_repository = any((parent / ".git").exists() for parent in (folder, *folder.parents))
        return None, f"cannot start git: {error.strerror}" if is_repository else ""
    if result.returncode == 0:
        return result.stdout.strip(), ""
    reason = " ".join(result.stderr.split())
    return None, "" if _NO_REPOSITORY in reason else reason
