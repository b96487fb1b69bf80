"""What the tests of DVC share: one clone in which the whole chain ran once."""

from __future__ import annotations

import pytest

from dvc_clone import Clone
from resnet50_pipeline.pipeline_registry import STAGES


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone after its first `dvc repro`, whose results are pushed and committed as data-v1; not to be changed."""
    clone = Clone.of_working_tree(tmp_path_factory.mktemp("published"))
    clone.run("dvc", "remote", "add", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    assert clone.repro() == list(STAGES)
    assert clone.untracked() == {".dvc/config", "dvc.lock"}
    clone.commit("v1")
    clone.run("git", "tag", "data-v1")
    clone.run("dvc", "push", "dvc.yaml")
    return clone
