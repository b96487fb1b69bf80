"""The summary shows where the runs actually are, which may not be the default location."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.hooks.mlflow_place import describe_place
from resnet50_pipeline.parameters import TrackingParameters

TRACKING = TrackingParameters(uri="sqlite:///mlflow.db", experiment="probe", artifact_root=Path("mlartifacts"))


@pytest.mark.parametrize(
    ("environment", "given", "shown"),
    [
        (None, {}, "`make ui`"),
        ("local", {}, "`make ui`"),
        ("test", {}, "`make ui 'ARGS=--env test'`"),
        (
            "test",
            {"uri": "sqlite:////srv/runs.db"},
            "`make ui 'ARGS=--env test --params tracking.uri=sqlite:////srv/runs.db'`",
        ),
        (None, {"uri": "http://ada:secret@mlflow:5000"}, "http://ada:…@mlflow:5000"),
    ],
)
def test_summary_shows_where_the_runs_are(
    tmp_path: Path, environment: str | None, given: dict[str, str], shown: str
) -> None:
    """For a server, the summary shows its address; for a database, the command that opens this one."""
    (tmp_path / "pyproject.toml").touch()
    tracking = TRACKING.model_copy(update=given)
    assert describe_place(tracking, tmp_path, environment, given).shown == shown


def test_installed_package_shows_mlflows_command(tmp_path: Path) -> None:
    """An installed package has no `make ui`."""
    shown = describe_place(TRACKING, tmp_path, "test", {}).shown
    assert shown == "`mlflow ui --backend-store-uri sqlite:///mlflow.db`"
