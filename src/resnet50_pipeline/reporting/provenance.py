"""Collects the provenance of a result: Git commit, command, machine and package versions."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from resnet50_pipeline.git import GitState

_PACKAGES = ("resnet50-pipeline", "paddleclas", "kedro", "numpy", "pandas", "opencv-python-headless")


@dataclass(frozen=True)
class Provenance:
    """The provenance of a report."""

    written_at: datetime
    """Time at which the report was written, in UTC."""
    source: str
    """Git commit at the start of the training run (see `describe_source`).

    If the training run is unknown, this is the commit at the start of the run that wrote the report.
    """
    versions: Mapping[str, str]
    """Package versions, keyed by package name."""
    evaluation_source: str = ""
    """Git commit at the start of the evaluation, if it differs from `source`."""
    command: str = ""
    """Command line, without passwords."""
    machine: str = ""
    """Operating system, processor architecture and Python version of the process that wrote the report."""


def collect_provenance(git: GitState, training_git: GitState | None = None) -> Provenance:
    """Return the provenance of the current process.

    Args:
        git: Git state at the start of the current run.
        training_git: Git state at the start of the training run, or None if unknown.
    """
    evaluation_source = describe_source(git)
    source = evaluation_source if training_git is None else describe_source(training_git)
    return Provenance(
        written_at=datetime.now(UTC),
        source=source,
        evaluation_source=evaluation_source if evaluation_source != source else "",
        versions={name: metadata.version(name) for name in _PACKAGES},
        command=describe_command(sys.argv),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def describe_command(arguments: Sequence[str]) -> str:
    """Return the command line as text, with passwords in URLs replaced by `…`.

    Otherwise, `--params tracking.uri=postgresql://ada:secret@db/mlflow` would reveal the password in the report.
    """
    program, *rest = arguments
    path = Path(program)
    words = ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
    return re.sub(r"(://[^/:@\s]*):[^/@\s]*@", r"\1:…@", shlex.join([*words, *rest]))


def describe_source(state: GitState) -> str:
    """Return the Git commit as text: `4f0c…`, `4f0c… (with uncommitted changes)`, or `no commit`."""
    if not state.has_commit:
        return f"no commit ({state.problem})" if state.problem else "no commit"
    return f"{state.commit} (with uncommitted changes)" if state.is_dirty else state.commit
