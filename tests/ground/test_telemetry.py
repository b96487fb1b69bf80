"""Telemetry is off in every process that imports this package, and in every Kedro command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet50_pipeline.telemetry import OFF, turn_off_telemetry

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables, as in a user's shell."""
    for name in OFF:
        monkeypatch.setenv(name, "")  # monkeypatch restores the value afterward
        monkeypatch.delenv(name)


def test_importing_the_package_turns_telemetry_off() -> None:
    """`import resnet50_pipeline` sets the variables that turn off telemetry."""
    # `make setup` has set the variables for every program in .venv.
    unset = f"import os; [os.environ.pop(name, None) for name in {sorted(OFF)}]"
    program = f"{unset}; import resnet50_pipeline; print(*(os.environ[name] for name in {sorted(OFF)}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [OFF[name] for name in sorted(OFF)]


@pytest.mark.usefixtures("unset")
def test_loading_a_model_stops_the_client_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that imported MLflow before this package has no telemetry client afterward."""
    from mlflow.telemetry import client

    monkeypatch.setattr(client, "_MLFLOW_TELEMETRY_CLIENT", object())
    turn_off_telemetry()
    assert client.get_telemetry_client() is None


@pytest.mark.usefixtures("unset")
def test_kedro_outside_a_project_sends_nothing() -> None:
    """When Kedro starts, telemetry is turned off before the plug-in that sends it reads the variables."""
    from kedro.framework.cli.cli import _init_plugins
    from kedro_telemetry.plugin import _check_for_telemetry_consent

    _init_plugins()
    assert _check_for_telemetry_consent(None) is False
