"""Describes invalid YAML files in `conf/`: file, line, problem and remedy.

conf/flowers/parameters.yml:9: found duplicate key training → merge both into one `training:`
"""

from __future__ import annotations

import io

import yaml
from omegaconf import OmegaConf

_DUPLICATE = "found duplicate key "


def find_yaml_problem(content: bytes, path: str) -> str | None:
    """Return the problem of a YAML file with its line and remedy, or None if OmegaConf can read the file.

    OmegaConf rejects duplicate keys. PyYAML silently uses the last one.
    """
    try:
        OmegaConf.load(io.StringIO(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return f"{path}:{line}: byte {error.start} is not UTF-8 → save the file as UTF-8"
    except yaml.YAMLError as error:
        return _describe(error, path)
    return None


def _describe(error: yaml.YAMLError, path: str) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    line = "" if mark is None else f":{mark.line + 1}"
    problem = problem or " ".join(str(error).split())
    return f"{path}{line}: {problem} → {_find_remedy(problem)}"


def _find_remedy(problem: str) -> str:
    if problem.startswith(_DUPLICATE):
        name = problem.removeprefix(_DUPLICATE)
        return f"merge both into one `{name}:`"
    if "'\\t'" in problem:
        return "use spaces instead of tabs"
    return "correct the YAML; check the indentation and the quotes in this line and the line before"
