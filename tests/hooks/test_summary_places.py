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
def test_summary_shows_where_the_runs_are(tmp_path: Path, uri: str, shown: str) -> None:
    """For a server, the summary shows its address; for a database, the command that opens the UI."""
    (tmp_path / "pyproject.toml").touch()
    tracking = TrackingParameters(uri=uri, experiment="probe", artifact_root=Path("mlartifacts"))
    assert describe_mlflow(find_address(tracking, tmp_path), tmp_path) == shown


def test_installed_package_shows_mlflows_command(tmp_path: Path) -> None:
    """An installed package has no `make ui`."""
    tracking = TrackingParameters(uri="sqlite:///mlflow.db", experiment="probe", artifact_root=Path("mlartifacts"))
    expected = "`mlflow ui --backend-store-uri sqlite:///mlflow.db`"
    assert describe_mlflow(find_address(tracking, tmp_path), tmp_path) == expected
