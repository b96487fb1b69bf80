"""Defines base classes for pydantic models that are stored in files."""

from __future__ import annotations

import re
import types
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

_URL = re.compile(r"[A-Za-z][\w+.-]+://")


class FrozenModel(BaseModel):
    """An immutable model that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FiniteModel(FrozenModel):
    """A frozen model that rejects infinite numbers and NaN."""

    model_config = ConfigDict(allow_inf_nan=False)


def refuse_url(place: object) -> object:
    """Reject a URL where a path is expected, because pathlib would turn it into a relative path.

    Raises:
        ValueError: if the value is a URL.
    """
    if isinstance(place, str) and _URL.match(place):
        raise ValueError(
            f"{place} is a URL, but only local files are supported: download it, and set the path of the file"
        )
    return place


def models_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the models in a field's type: one, several for a union, or () if other values are allowed."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    found = tuple(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return found if len(found) == len(options) else ()
