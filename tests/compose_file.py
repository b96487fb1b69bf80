"""Reads `compose.yaml` like `docker compose`: merges YAML keys and fills in `${NAME:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
COMPOSE_FILE = REPOSITORY / "compose.yaml"
ENVIRONMENT_FILE = REPOSITORY / ".env.example"
_VARIABLE = re.compile(r"\$\{(\w+)(?::(-|\?)([^}]*))?\}")


class MissingVariableError(Exception):
    """A required variable (`${NAME:?…}`) is not set."""


def read_environment_file() -> dict[str, str]:
    """Return the names and values of .env.example."""
    lines = ENVIRONMENT_FILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)  # type: ignore[arg-type]


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with `variables` filled in.

    Raises:
        MissingVariableError: if a required variable is unset or empty.
    """
    return fill_in(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8")), variables)


def variables_of(value: Any) -> set[str]:
    """Return the names of all variables in a value."""
    if isinstance(value, dict):
        return {name for item in value.values() for name in variables_of(item)}
    if isinstance(value, list):
        return {name for item in value for name in variables_of(item)}
    return {match[1] for match in _VARIABLE.finditer(value)} if isinstance(value, str) else set()


def fill_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a value with the variables in all its strings filled in."""
    if isinstance(value, dict):
        return {key: fill_in(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, variables) for item in value]
    return _VARIABLE.sub(lambda match: _value_of(match, variables), value) if isinstance(value, str) else value


def _value_of(match: re.Match[str], variables: Mapping[str, str]) -> str:
    name, operator, text = match.groups()
    if found := variables.get(name):
        return found
    if operator == "?":
        raise MissingVariableError(f"{name}: {text}")
    return text or ""
