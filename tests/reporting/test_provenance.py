"""`reporting.provenance` reports the Git commit, package versions and current time."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from resnet50_pipeline.git import GitState, describe_git, git_at_start, record_git
from resnet50_pipeline.reporting.provenance import collect_provenance, describe_source


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A Git repository that ignores the user's Git settings and has one commit."""
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


def test_a_clean_repository_is_described_by_its_commit(repository):
    """If there are no changes, the source is the full commit id."""
    assert describe_source(describe_git(repository)) == _git(repository, "rev-parse", "HEAD")


def test_uncommitted_changes_are_noted(repository):
    """Both a changed file and a new file add a note to the commit."""
    commit = _git(repository, "rev-parse", "HEAD")

    (repository / "new.py").write_text("")
    assert describe_source(describe_git(repository)).startswith(f"{commit} (")
    (repository / "new.py").unlink()
    (repository / "conf.yml").write_text("epochs: 6\n")
    assert describe_source(describe_git(repository)).startswith(f"{commit} (")


def test_a_folder_without_a_commit_is_not_an_error(tmp_path, monkeypatch):
    """If there is no repository or git is not installed, the source is `no commit`."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_source(describe_git(tmp_path)) == "no commit"

    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_source(describe_git(tmp_path)) == "no commit"


def test_a_commit_during_a_run_does_not_change_its_source(repository, tmp_path_factory, monkeypatch):
    """The source is that of the start of the run. Other folders and later runs have their own."""
    monkeypatch.setenv("RESNET50_PIPELINE_GIT_AT_START", "[null, null]")  # restored after the test
    first = _git(repository, "rev-parse", "HEAD")
    assert record_git(repository).commit == first

    (repository / "new.py").write_text("")
    assert describe_source(git_at_start(repository)) == first
    _git(repository, "add", ".")
    _git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "second")
    assert describe_source(git_at_start(repository)) == first
    assert not git_at_start(tmp_path_factory.mktemp("other")).has_commit

    assert record_git(repository).commit == _git(repository, "rev-parse", "HEAD") != first


def test_the_source_of_the_training_run_comes_first():
    """If the evaluation ran with other code than the training, the report shows both."""
    trained, evaluated = GitState("4f0c", is_dirty=False), GitState("91d2", is_dirty=True)
    same, other = collect_provenance(trained, trained), collect_provenance(evaluated, trained)
    assert (same.source, same.evaluation_source) == ("4f0c", "")
    assert (other.source, other.evaluation_source) == ("4f0c", "91d2 (with uncommitted changes)")


def test_versions_and_time_describe_this_process(repository):
    """The versions match the installed packages, and the time is the current time in UTC."""
    before = datetime.now(UTC)

    provenance = collect_provenance(describe_git(repository))

    assert before <= provenance.written_at <= datetime.now(UTC)
    assert provenance.versions["kedro"] == metadata.version("kedro")
    assert set(provenance.versions) >= {"resnet50-pipeline", "paddleclas", "numpy"}
