"""Sorts and removes keys when sections are written as YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def in_order(values: Mapping[str, Any], *first: str) -> dict[str, Any]:
    """Return `values` with the keys in `first` moved to the front, in that order."""
    return {name: values[name] for name in first} | dict(values)


def without_none(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return `values` without the keys in `names` whose value is None.

    PaddleClas enables some features if the key exists, even if its value is null.
    """
    unset = {name for name in names if values.get(name) is None}
    return {name: value for name, value in values.items() if name not in unset}
