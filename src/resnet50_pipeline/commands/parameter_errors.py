"""Rewrites pydantic's messages about invalid parameters.

training.epoch: there is no such parameter; did you mean epochs?
"""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import BaseModel

from resnet50_pipeline import parameters
from resnet50_pipeline.frozen_model import models_of
from resnet50_pipeline.text import suggest_name

# `training: 2 validation errors for TrainingParameters`, optionally after Kedro's own prefix.
_HEADING = re.compile(
    r"^(?:- Parameter '[^']+': Failed to instantiate \w+ for parameter '(?P<kedro>[^']+)'|(?P<own>\w+)): "
    r"\d+ validation errors? for (?P<model>\w+)$"
)
_FINDING = re.compile(r"^  (?P<rule>.+?) \[type=(?P<kind>\w+), input_value=(?P<value>.*), input_type=(?P<type>\w+)\]$")
_WEB_SITE = "For further information visit"


def describe_invalid_parameters(text: str) -> str:
    """Rewrite an error message with one line per invalid value: its name, the rule and the value.

    Links to pydantic's website are removed. Other lines are left unchanged.
    """
    lines: list[str] = []
    group, model, field = "", "", ""
    for line in text.splitlines():
        if line.lstrip().startswith(_WEB_SITE):
            continue
        if heading := _HEADING.match(line):
            # A rule for the whole group has no field.
            group, model, field = heading["kedro"] or heading["own"], heading["model"], ""
        elif finding := _FINDING.match(line):
            if field and lines and lines[-1] == field:
                lines.pop()  # pydantic prints the field on a separate line
            name = ".".join(part for part in (group, field) if part)
            lines.append(f"{name}: {_describe(finding, group, model, field)}")
        else:
            field = line.strip()
            lines.append(line)
    if group and lines and lines[0] == "Parameter validation failed:":
        lines[0] = "invalid parameters:"
    return "\n".join(lines)


def _describe(finding: re.Match[str], group: str, model: str, field: str) -> str:
    if finding["kind"] != "extra_forbidden":
        rule = finding["rule"].removeprefix("Value error, ")
        # For rules that compare several values of a group, pydantic shows the entire group, truncated in the middle.
        # The messages of such rules already state the values.
        found = "" if finding["kind"] == "value_error" and finding["type"] == "dict" else f"; found {finding['value']}"
        return f"{rule[:1].lower()}{rule[1:]}{found}"
    *path, name = field.split(".")
    known = _fields_of(model, path)
    nested = [".".join([*path, one]) for one in _find_nested(model, path, name)]
    prefix = f"{group}." if group else ""
    hint = " or ".join(f"{prefix}{one}" for one in nested)
    hint = (
        f"did you mean {hint}?"
        if hint
        else suggest_name(name, known) or (f"known: {', '.join(known)}" if known else "")
    )
    return "; ".join(filter(None, ("there is no such parameter", hint)))


def _find_nested(model: str, path: list[str], name: str) -> list[str]:
    """Return the fields called `name` in the groups directly inside the group at `path`, such as `lr.learning_rate`."""
    return [f"{inner}.{name}" for inner in _fields_of(model, path) if name in _fields_of(model, [*path, inner])]


def _fields_of(model: str, path: list[str]) -> list[str]:
    """Return the field names of the group at `path` in a parameter model, or [] if there is no group at `path`."""
    found = models_of(getattr(parameters, model, None))
    for name in path:
        annotations = [one.model_fields[name].annotation for one in found if name in one.model_fields]
        found = tuple(inner for annotation in annotations for inner in _groups_of(annotation))
    return list(dict.fromkeys(field for one in found for field in one.model_fields))


def _groups_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the pydantic models among the types that a field accepts."""
    return models_of(annotation) or tuple(inner for option in get_args(annotation) for inner in models_of(option))
