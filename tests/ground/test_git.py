"""What a run says of the source code it was made with."""

from __future__ import annotations

import subprocess

import pytest

from resnet50_pipeline.git import describe_git


def git(folder, *arguments: str) -> str:
    identity = ["-c", "user.name=probe", "-c", "user.email=probe@example.com"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_commit_and_changes_are_told(tmp_path):
    """A clean folder gives its commit; a new file makes it dirty, an ignored one does not."""
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("data\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "data").touch()
    state = describe_git(tmp_path)
    assert (state.commit, state.is_dirty, state.has_commit) == (git(tmp_path, "rev-parse", "HEAD"), False, True)
    (tmp_path / "new.py").touch()
    assert describe_git(tmp_path).is_dirty


def test_what_dvc_repro_writes_between_two_stages_is_no_change_of_source(tmp_path):
    """A new or changed dvc.lock, of either chain, leaves the folder clean; seen from a folder inside as well."""
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


def test_no_commit_is_no_commit(tmp_path):
    """Before the first commit there is nothing to name, and the files count as not committed."""
    git(tmp_path, "init")
    state = describe_git(tmp_path)
    assert (state.commit, state.is_dirty, state.has_commit) == ("none", True, False)


@pytest.mark.parametrize(("words", "commit", "is_dirty"), [("4f0c\n", "4f0c", False), ("none-dirty\n", "none", True)])
def test_a_wheel_knows_what_it_was_built_of(tmp_path, words, commit, is_dirty):
    """In a folder of another repository it is still the commit of the code that runs."""
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another repository's")
    (tmp_path / "COMMIT").write_text(words)
    state = describe_git(tmp_path, built_of=tmp_path / "COMMIT")
    assert (state.commit, state.is_dirty) == (commit, is_dirty)
    assert str(state) == words.strip()
