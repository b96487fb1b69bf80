"""The development container has a supported Python version and runs the setup of the project."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def container() -> dict[str, Any]:
    """The content of devcontainer.json, which is JSON with comments."""
    text = (PROJECT / ".devcontainer" / "devcontainer.json").read_text()
    read: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return read


def test_it_runs_the_setup_of_the_project(container) -> None:
    """It runs `make setup-dev`, with a Python version that pyproject.toml supports."""
    assert container["postCreateCommand"] == "make setup-dev"
    assert ":3.11-" in container["image"]
    settings = container["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"].endswith("/.venv/bin/python")


def test_telemetry_is_off_and_ports_match_the_makefile(container) -> None:
    """The container's telemetry settings and ports are the same as in the Makefile."""
    makefile = (PROJECT / "Makefile").read_text()
    exported = dict(re.findall(r"^export (\w+) := (\S+)$", makefile, flags=re.MULTILINE))
    assert container["containerEnv"].items() <= exported.items()
    ports = re.findall(r"^\w+_PORT \?= (\d+)$", makefile, flags=re.MULTILINE)
    assert container["forwardPorts"] == [int(port) for port in ports]
