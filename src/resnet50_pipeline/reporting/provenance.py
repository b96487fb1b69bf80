"""Where a result comes from: the commit of the project, the command, and the versions of what computed it."""

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

from resnet50_pipeline.git import describe_git

_PACKAGES = ("resnet50-pipeline", "paddleclas", "kedro", "numpy", "pandas", "opencv-python")


@dataclass(frozen=True)
class Provenance:
    """What a report says about its making."""

    written_at: datetime
    """In UTC."""
    source: str
    """The commit, with a note where files differ from it, or that there is none."""
    versions: Mapping[str, str]
    """By the name of the package."""
    command: str = ""
    """That was typed, without the passwords of addresses."""
    machine: str = ""
    """Operating system, processor and Python, of the process that wrote the report."""


def collect_provenance(project_dir: Path) -> Provenance:
    """Return the provenance of a run from the folder `project_dir`, now."""
    return Provenance(
        written_at=datetime.now(UTC),
        source=describe_source(project_dir),
        versions={name: metadata.version(name) for name in _PACKAGES},
        command=describe_command(sys.argv),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def describe_command(arguments: Sequence[str]) -> str:
    """Return a command as it can be typed again, the program by its name, passwords in addresses as `…`.

    `--params tracking.uri=postgresql://ada:secret@db/mlflow` must not end in a report.
    """
    program, *rest = arguments
    path = Path(program)
    words = ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
    return re.sub(r"(://[^/:@\s]*):[^/@\s]*@", r"\1:…@", shlex.join([*words, *rest]))


def describe_source(project_dir: Path) -> str:
    """Return the git commit of a folder in words: `4f0c…`, `4f0c… (files differ from it)`, or `no commit`."""
    state = describe_git(project_dir)
    if not state.has_commit:
        return "no commit"
    return f"{state.commit} (files differ from it)" if state.is_dirty else state.commit
