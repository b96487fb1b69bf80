"""`reporting.provenance`: the commit that a report names is the one that made it."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from resnet50_pipeline.reporting.provenance import collect_provenance, describe_source


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit, and nobody's settings."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "conf.yml").write_text("epochs: 5\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_folder_is_its_commit(repository):
    """Without changes the source is the full commit id and nothing else."""
    assert describe_source(repository) == _git(repository, "rev-parse", "HEAD")


def test_changes_that_are_not_committed_are_told(repository):
    """A changed file, and a new one, make the commit only nearly right."""
    commit = _git(repository, "rev-parse", "HEAD")

    (repository / "new.py").write_text("")
    assert describe_source(repository) == f"{commit} (files differ from it)"
    (repository / "new.py").unlink()
    (repository / "conf.yml").write_text("epochs: 6\n")
    assert describe_source(repository) == f"{commit} (files differ from it)"


def test_a_folder_without_a_commit_says_so(tmp_path, monkeypatch):
    """No repository, and no git, are no error."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_source(tmp_path) == "no commit"

    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_source(tmp_path) == "no commit"


def test_versions_and_time_are_those_of_this_process(repository):
    """The versions are the installed ones, and the time is now, in UTC."""
    before = datetime.now(UTC)

    provenance = collect_provenance(repository)

    assert before <= provenance.written_at <= datetime.now(UTC)
    assert provenance.versions["kedro"] == metadata.version("kedro")
    assert set(provenance.versions) >= {"resnet50-pipeline", "paddleclas", "numpy"}
