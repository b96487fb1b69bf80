"""Where a result comes from: the commit of the project and the versions of what computed it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = ("resnet50-pipeline", "paddleclas", "kedro", "numpy", "pandas", "opencv-python")
_GIT_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Provenance:
    """What a report says about its making."""

    written_at: datetime
    """In UTC."""
    source: str
    """The commit, with a note where files differ from it, or why there is none."""
    versions: Mapping[str, str]
    """By the name of the package."""


def collect_provenance(project_dir: Path) -> Provenance:
    """Return the provenance of a run from the folder `project_dir`, now."""
    return Provenance(
        written_at=datetime.now(UTC),
        source=describe_source(project_dir),
        versions={name: metadata.version(name) for name in _PACKAGES},
    )


def describe_source(project_dir: Path) -> str:
    """Return the git commit of a folder in words: `4f0c… (files differ from it)`, or `no commit: ` and git's reason."""
    try:
        commit = _run_git(project_dir, "log", "-1", "--format=%H")
        changes = _run_git(project_dir, "status", "--porcelain")
    except FileNotFoundError:
        return "no commit: git is not installed"
    except subprocess.TimeoutExpired:
        return f"no commit: git did not answer within {_GIT_TIMEOUT_SECONDS} s"
    except subprocess.CalledProcessError as error:
        return f"no commit: {error.stderr.strip().splitlines()[0]}"
    return f"{commit} (files differ from it)" if changes else commit


def _run_git(project_dir: Path, *arguments: str) -> str:
    finished = subprocess.run(
        ["git", "-C", str(project_dir), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=_GIT_TIMEOUT_SECONDS,
    )
    return finished.stdout.strip()
