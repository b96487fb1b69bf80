"""Fixtures for tests with a real server that can be started and stopped."""

from __future__ import annotations

import pytest

from mlflow_stores import MlflowServer


@pytest.fixture
def server(tmp_path):
    """A server that has not been started."""
    folder = tmp_path / "server"
    folder.mkdir()
    with MlflowServer(folder) as server:
        yield server


@pytest.fixture
def project(tmp_path):
    """A project folder with a report and a training folder."""
    folder = tmp_path / "project"
    (folder / "training").mkdir(parents=True)
    (folder / "report.html").write_text("<html>")
    return folder
