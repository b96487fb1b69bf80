"""`compose.yaml` as `docker compose` would read it: YAML with its merge keys, `${NAME:-default}` filled in."""

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
    """A variable that the file demands (`${NAME:?…}`) is not set."""


def read_environment_file() -> dict[str, str]:
    """Return the names and values of .env.example."""
    lines = ENVIRONMENT_FILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)  # type: ignore[arg-type]


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with `variables` in place.

    Raises:
        MissingVariableError: one that has to be set is not, or is empty.
    """
    return fill_in(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8")), variables)


def variables_of(value: Any) -> set[str]:
    """Return the names of all variables in a value."""
    if isinstance(value, dict):
        return {name for one in value.values() for name in variables_of(one)}
    if isinstance(value, list):
        return {name for one in value for name in variables_of(one)}
    return {match[1] for match in _VARIABLE.finditer(value)} if isinstance(value, str) else set()


def fill_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a value with the variables in all its texts filled in."""
    if isinstance(value, dict):
        return {key: fill_in(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [fill_in(one, variables) for one in value]
    return _VARIABLE.sub(lambda match: _value_of(match, variables), value) if isinstance(value, str) else value


def _value_of(match: re.Match[str], variables: Mapping[str, str]) -> str:
    name, how, text = match.groups()
    if given := variables.get(name):
        return given
    if how == "?":
        raise MissingVariableError(f"{name}: {text}")
    return text or ""
