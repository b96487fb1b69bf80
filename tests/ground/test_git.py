"""A run records its Git commit."""

from __future__ import annotations

import subprocess

import pytest

from resnet50_pipeline.git import describe_git


def git(folder, *arguments: str) -> str:
    identity = ["-c", "user.name=probe", "-c", "user.email=probe@example.com"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_commit_and_uncommitted_changes_are_detected(tmp_path):
    """A new file makes a clean folder dirty, but an ignored file does not."""
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("data\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "data").touch()
    state = describe_git(tmp_path)
    assert (state.commit, state.is_dirty, state.has_commit) == (git(tmp_path, "rev-parse", "HEAD"), False, True)
    (tmp_path / "new.py").touch()
    assert describe_git(tmp_path).is_dirty


def test_dvc_lock_is_not_a_source_change(tmp_path):
    """A new or changed dvc.lock leaves the folder clean, even when seen from a subfolder."""
    inside = tmp_path / "conf" / "imagenet"
    inside.mkdir(parents=True)
    git(tmp_path, "init")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "dvc.lock").write_text("stages: {training: {}}\n")
    (inside / "dvc.lock").touch()
    assert not describe_git(tmp_path).is_dirty
    assert not describe_git(inside).is_dirty
    (tmp_path / "new.py").touch()
    assert describe_git(inside).is_dirty


def test_repository_without_commits_has_no_commit(tmp_path):
    """In a repository without commits, no commit is reported and the folder is dirty."""
    git(tmp_path, "init")
    state = describe_git(tmp_path)
    assert (state.commit, state.is_dirty, state.has_commit) == ("none", True, False)


@pytest.mark.parametrize(("content", "commit", "is_dirty"), [("4f0c\n", "4f0c", False), ("none-dirty\n", "none", True)])
def test_wheel_reports_its_build_commit(tmp_path, content, commit, is_dirty):
    """A wheel reports the commit it was built from, even inside another repository."""
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another repository's")
    (tmp_path / "COMMIT").write_text(content)
    state = describe_git(tmp_path, built_of=tmp_path / "COMMIT")
    assert (state.commit, state.is_dirty) == (commit, is_dirty)
    assert str(state) == content.strip()


def test_a_new_file_counts_regardless_of_git_settings(tmp_path):
    """status.showUntrackedFiles=no does not hide a new file."""
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    git(tmp_path, "config", "status.showUntrackedFiles", "no")
    assert not describe_git(tmp_path).is_dirty
    (tmp_path / "new.py").touch()
    assert describe_git(tmp_path).is_dirty


def test_an_unreadable_repository_has_a_reason(tmp_path, monkeypatch):
    """For a repository owned by another user, there is no commit but git's own reason and advice."""
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    state = describe_git(tmp_path)
    assert (state.commit, state.is_dirty) == ("none", True)
    assert "safe.directory" in state.problem


def test_a_missing_git_is_a_problem_only_in_a_repository(tmp_path, monkeypatch):
    """Without a repository, there is no commit to record, so a missing git program is not a problem."""
    git(tmp_path, "init")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git" in describe_git(tmp_path).problem
    (tmp_path / ".git").rename(tmp_path / "other")
    assert describe_git(tmp_path).problem == ""
