"""Provides a dataset for tests to break."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from faulty_dataset import FaultyDataset


@pytest.fixture
def faulty(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyDataset:
    """A dataset to break, with separate folders for results and temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return FaultyDataset(digits, tmp_path / "results", temporary)
