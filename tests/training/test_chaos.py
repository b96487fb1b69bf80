"""A training that is killed, whoever of it and whenever, and started again, ends as if nobody had touched it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chaos import draw_kill, kill_and_resume
from resnet50_pipeline.parameters import TrainingParameters
from striped_dataset import build_training_parameters
from training_driver import run_training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory, striped_dataset: Path) -> tuple[TrainingParameters, float]:
    """An unbroken training of two ranks, and the seconds that it took."""
    training = build_training_parameters(
        tmp_path_factory.mktemp("whole") / "training", ranks=2, epochs=3, save_interval_steps=2
    )
    started = time.monotonic()
    run_training(training, striped_dataset)
    return training, time.monotonic() - started


# All five targets and all three signals; `make chaos` goes through fifty.
@pytest.mark.parametrize("seed", [0, 1, 7, 8, 13, 4])
def test_killed_and_resumed_is_unbroken(seed: int, whole, striped_dataset: Path, tmp_path: Path):
    """SIGKILL, SIGTERM or SIGINT to a rank, launcher, guard or program: same weights, and nothing left behind."""
    training, seconds = whole
    kill_and_resume(draw_kill(seed, seconds), training, striped_dataset, tmp_path)
