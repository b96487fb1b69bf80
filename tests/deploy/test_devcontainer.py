"""The development container installs what the setup needs, in the Python that the project has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def container() -> dict[str, Any]:
    """devcontainer.json, which is JSON with comments."""
    text = (PROJECT / ".devcontainer" / "devcontainer.json").read_text()
    read: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return read


def test_it_is_set_up_as_every_other_machine(container) -> None:
    """The libraries of the Dockerfile, then `make setup`, under the Python of pyproject.toml; editors use .venv."""
    dockerfile = (PROJECT / "Dockerfile").read_text()
    (libraries,) = re.findall(r"--no-install-recommends (lib.*?) \\", dockerfile)
    assert container["onCreateCommand"].endswith(f"--no-install-recommends {libraries}")
    assert container["postCreateCommand"] == "make setup"
    assert ":3.11-" in container["image"]
    settings = container["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"].endswith("/.venv/bin/python")


def test_what_reports_home_is_off_and_ports_are_those_of_make(container) -> None:
    """Telemetry is as in the Makefile, and so are the ports of MLflow and Kedro-Viz."""
    makefile = (PROJECT / "Makefile").read_text()
    exported = dict(re.findall(r"^export (\w+) := (\S+)$", makefile, flags=re.MULTILINE))
    assert container["containerEnv"].items() <= exported.items()
    ports = re.findall(r"^\w+_PORT \?= (\d+)$", makefile, flags=re.MULTILINE)
    assert container["forwardPorts"] == [int(port) for port in ports]
