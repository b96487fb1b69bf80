"""An interrupted `dvc repro` keeps its training run, and the next one resumes from the last checkpoint set."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from dvc_clone import Clone
from resnet50_pipeline.events import Finished, Started, read_events
from resnet50_pipeline.training_dir import checkpoint_paths, events_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRAINING = "data/dvc/unpublished/06_models/training"
PUBLISHED = "data/dvc/06_models/training"


@pytest.fixture(scope="module")
def clone(published: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with all results pulled."""
    clone = published.clone_to(tmp_path_factory.mktemp("interrupted") / "clone")
    clone.run("dvc", "pull", "dvc.yaml")
    return clone


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive), signal.SIGKILL], ids=lambda how: how.name
)
def test_an_interrupted_training_run_resumes(clone: Clone, how: signal.Signals) -> None:
    """After Ctrl-C or SIGKILL in the third epoch, repro trains only the remaining epochs."""
    rate = 0.01 + how / 10_000  # so that it differs from the previous, finished training run
    clone.edit_parameters(
        "parameters_training.yml", {"training": {"epochs": 5, "keep_checkpoints": 9, "lr": {"learning_rate": rate}}}
    )
    training = clone.root / TRAINING
    repro = clone.start("dvc", "repro", "training", start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (f"learning_rate: {rate}" in _used_configuration(clone) and len(checkpoint_paths(training)) >= 3):
        assert repro.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(repro.pid, how)
    assert repro.wait(60) != 0
    _wait_until_ranks_have_exited(clone)
    clone.run("dvc", "checkout", "--force")
    reached = checkpoint_paths(training)[-1].name
    assert not any(isinstance(event, Finished) for event in read_events(events_path(training)))

    assert clone.repro("training") == ["training"]
    events = read_events(events_path(training))
    assert isinstance(events[-1], Finished)
    assert len([event for event in events if isinstance(event, Started)]) == 2
    assert f"checkpoints/{reached}" in _used_configuration(clone)
    assert not list(training.parent.glob("training.unfinished-*"))
    published = events_path(clone.root / PUBLISHED)
    assert published.read_bytes() == events_path(training).read_bytes()
    assert not published.samefile(events_path(training))
    assert "up to date" in clone.run("dvc", "repro", "training")


def _used_configuration(clone: Clone) -> str:
    path = clone.root / TRAINING / "training_config.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _wait_until_ranks_have_exited(clone: Clone) -> None:
    """Wait until the ranks of a killed run have exited."""
    deadline = time.monotonic() + 30
    while (
        subprocess.run(["pgrep", "-f", str(clone.root / "src")], check=False, stdout=subprocess.DEVNULL).returncode == 0
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
