"""The summary shows where the runs are, not where they would be by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.hooks.summary import describe_mlflow
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.address import find_address


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///mlflow.db", "`make ui`"),
        ("sqlite:///data/test/mlflow.db", "`make ui TRACKING_URI=sqlite:///data/test/mlflow.db`"),
        ("sqlite:////srv/my runs.db", "`make ui 'TRACKING_URI=sqlite:////srv/my runs.db'`"),
        ("http://ada:secret@mlflow:5000", "http://ada:…@mlflow:5000"),
    ],
)
def test_the_place_is_that_of_the_runs(tmp_path: Path, uri: str, shown: str) -> None:
    """A server has an address, and a database a command that opens the UI for it."""
    (tmp_path / "pyproject.toml").touch()
    tracking = TrackingParameters(uri=uri, experiment="probe", artifact_root=Path("mlartifacts"))
    assert describe_mlflow(find_address(tracking, tmp_path), tmp_path) == shown


def test_without_a_makefile_the_command_is_that_of_mlflow(tmp_path: Path) -> None:
    """An installed package has no `make ui`."""
    tracking = TrackingParameters(uri="sqlite:///mlflow.db", experiment="probe", artifact_root=Path("mlartifacts"))
    expected = "`mlflow ui --backend-store-uri sqlite:///mlflow.db`"
    assert describe_mlflow(find_address(tracking, tmp_path), tmp_path) == expected
