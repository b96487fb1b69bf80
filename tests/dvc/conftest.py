"""Provides one clone in which all stages have run once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from dvc_clone import Clone
from resnet50_pipeline.pipeline_registry import STAGES


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone after `dvc repro`, whose results are pushed and committed as data-v1. Tests must not change it.

    The first process that needs the clone creates it for all processes of pytest-xdist.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    clone = Clone(shared / "published")
    is_complete = shared / "published.complete"
    with FileLock(shared / "published.lock"):
        if not is_complete.exists():
            _publish(clone.root, shared / "remote")
            is_complete.touch()
    return clone


def _publish(root: Path, remote: Path) -> None:
    root.mkdir()
    remote.mkdir()
    clone = Clone.of_working_tree(root)
    clone.run("dvc", "remote", "add", "--default", "store", str(remote))
    assert clone.repro() == list(STAGES)
    assert clone.untracked() == {".dvc/config", "dvc.lock"}
    clone.commit("v1")
    clone.run("git", "tag", "data-v1")
    clone.run("dvc", "push", "dvc.yaml")
