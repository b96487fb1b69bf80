"""What pydantic says of wrong parameters, in words for people: `training.epoch: there is no such parameter …`."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel

from resnet50_pipeline import parameters

# `training: 2 validation errors for TrainingParameters`, with what Kedro puts before it.
_HEADING = re.compile(
    r"^(?:- Parameter '[^']+': Failed to instantiate \w+ for parameter '(?P<kedro>[^']+)'|(?P<own>\w+)): "
    r"\d+ validation errors? for (?P<model>\w+)$"
)
_FINDING = re.compile(r"^  (?P<rule>.+?) \[type=(?P<kind>\w+), input_value=(?P<value>.*), input_type=\w+\]$")
_WEB_SITE = "For further information visit"


def describe_wrong_parameters(text: str) -> str:
    """Return an error's message with one line a wrong value: name, rule, the value found.

    Lines of other kinds stay as they are, but for those that point to pydantic's web site.
    """
    lines: list[str] = []
    group, model, field = "", "", ""
    for line in text.splitlines():
        if line.lstrip().startswith(_WEB_SITE):
            continue
        if heading := _HEADING.match(line):
            group, model = heading["kedro"] or heading["own"], heading["model"]
        elif finding := _FINDING.match(line):
            if field and lines and lines[-1] == field:
                lines.pop()  # pydantic gives the field a line of its own
            name = ".".join(part for part in (group, field) if part)
            lines.append(f"{name}: {_describe(finding, model, field)}")
        else:
            field = line.strip()
            lines.append(line)
    if group and lines and lines[0] == "Parameter validation failed:":
        lines[0] = "parameters break their rules:"
    return "\n".join(lines)


def _describe(finding: re.Match[str], model: str, field: str) -> str:
    if finding["kind"] != "extra_forbidden":
        rule = finding["rule"].removeprefix("Value error, ")
        return f"{rule[:1].lower()}{rule[1:]}; found {finding['value']}"
    *path, name = field.split(".")
    known = _fields_of(model, path)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(known)}" if known else ""
    return f"there is no such parameter{hint}"


def _fields_of(model: str, path: list[str]) -> list[str]:
    """Return the names in the group at a path below a model of `parameters`; [] where that is no group."""
    found: Any = getattr(parameters, model, None)
    for name in path:
        if not (isinstance(found, type) and issubclass(found, BaseModel)) or name not in found.model_fields:
            return []
        annotation = found.model_fields[name].annotation
        options = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        found = next((one for one in options if issubclass(one, BaseModel)), None)
    return list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else []
