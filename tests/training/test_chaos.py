"""A run that is killed at a random moment and resumed ends like an uninterrupted run."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import Undisturbed, draw_kill, kill_and_resume, train_undisturbed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, striped_dataset: Path) -> Undisturbed:
    """An uninterrupted training run on two ranks."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed"), striped_dataset)


# These seeds cover all targets; `make chaos` runs fifty.
@pytest.mark.parametrize("seed", [*(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (1, 2, 8)), 4, 5])
def test_killed_and_resumed_training_equals_uninterrupted_run(
    seed: int, undisturbed: Undisturbed, striped_dataset: Path, tmp_path: Path
):
    """After a signal to any process of the run, the resumed run produces the same weights. No process survives."""
    kill_and_resume(draw_kill(seed, undisturbed), undisturbed.training, striped_dataset, tmp_path)
