"""Describes the fields of pydantic models as tables."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from resnet50_pipeline.frozen_model import models_of

_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", Any: "any"}


def describe_type(annotation: Any) -> str:  # noqa: PLR0911 - one return per kind of type
    """Describe a type for people who write YAML: `list of integer`, `path or null`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{_as_yaml(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        given = [one for one in arguments if one is not type(None)]
        words = " or ".join(dict.fromkeys(describe_type(one) for one in given))
        return f"{words} or null" if len(given) < len(arguments) else words
    if origin in (list, tuple):
        if len(arguments) == 2 and arguments[1] is not Ellipsis:
            return f"two {describe_type(arguments[0])}s"
        return f"list of {describe_type(arguments[0])}"
    if origin is dict:
        return f"map of {describe_type(arguments[0])} to {describe_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and "name" in annotation.model_fields:
        return f"group with `name` {describe_type(annotation.model_fields['name'].annotation)}"
    return str(getattr(annotation, "__name__", annotation))


def describe_rule(field: FieldInfo) -> str:
    """Describe the bounds of a field, such as `≥ 1, < 10`. Return "" if there are none."""
    signs = {annotated_types.Ge: ("≥", "ge"), annotated_types.Gt: (">", "gt")} | {
        annotated_types.Le: ("≤", "le"),
        annotated_types.Lt: ("<", "lt"),
    }
    found = []
    for rule in field.metadata:
        if type(rule) in signs:
            sign, attribute = signs[type(rule)]
            found.append(f"{sign} {getattr(rule, attribute):g}")
        elif isinstance(rule, annotated_types.MinLen):
            found.append(f"at least {rule.min_length}")
        elif isinstance(rule, annotated_types.MaxLen):
            found.append(f"at most {rule.max_length}")
        elif getattr(rule, "pattern", None):
            found.append(f"like `{rule.pattern}`")
    return ", ".join(found)


def walk_groups(name: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield a parameter group and its nested groups, with paths such as `training.launch`. Variants are separate."""
    yield name, model
    for key, field in model.model_fields.items():
        for inner in models_of(field.annotation):
            yield from walk_groups(f"{name}.{key}", inner)


def show_value(value: Any) -> str:
    """Return a value as YAML for a table cell. For a long list, return only its length."""
    if value is None or value in ("", [], {}, ()):
        return ""
    if isinstance(value, list | dict) and len(json.dumps(value)) > 60:
        return f"{len(value)} entries"
    return f"`{_as_yaml(value)}`"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a Markdown table. Cells must not contain line breaks."""
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _as_yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list):
        return "[" + ", ".join(_as_yaml(one) for one in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)
