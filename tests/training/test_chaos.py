"""A training that is killed, whoever of it and whenever, and started again, ends as if nobody had touched it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import Unbroken, draw_kill, kill_and_resume, train_unbroken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, striped_dataset: Path) -> Unbroken:
    """A training of two ranks that nobody touches."""
    return train_unbroken(tmp_path_factory.mktemp("unbroken"), striped_dataset)


# All five targets and all three signals; `make chaos` goes through fifty.
@pytest.mark.parametrize("seed", [1, 2, 4, 5, 8, 13])
def test_killed_and_resumed_is_unbroken(seed: int, unbroken: Unbroken, striped_dataset: Path, tmp_path: Path):
    """SIGKILL, SIGTERM or SIGINT to a rank, launcher, guard or program: same weights, and nothing left behind."""
    kill_and_resume(draw_kill(seed, unbroken), unbroken.training, striped_dataset, tmp_path)
