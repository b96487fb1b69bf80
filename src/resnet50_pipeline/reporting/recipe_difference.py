"""Compares the training parameters of a run with the recipe file that it used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from resnet50_pipeline.parameters import RUN_SETTINGS, TrainingParameters

logger = logging.getLogger(__name__)

_GROUP = "training"
_BASE_FILE = "base/parameters_training.yml"
_COMPARED_GROUPS = ("dataset", "data_preparation")
_MISSING = object()


@dataclass(frozen=True)
class Difference:
    """A parameter with two values. A value is None if the parameter is not set."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class RecipeDifference:
    """The differences between a run and its recipe file."""

    file: str
    """Path of the recipe file, relative to the configuration folder."""
    differences: tuple[Difference, ...]


def compare_with_recipe(training: TrainingParameters, recipe: str | None, conf_dir: Path) -> RecipeDifference | None:
    """Return how the training parameters differ from their recipe file.

    The settings of a run, such as devices and checkpoint intervals, are not part of a recipe and are not compared.

    Args:
        training: parameters of the run.
        recipe: name of the recipe, or None for the parameters of the base environment.
        conf_dir: configuration folder.

    Returns:
        The differences, or None if the file is not in `conf_dir` or cannot be combined with the settings of the run.
    """
    file = f"recipes/{recipe}.yml" if recipe else _BASE_FILE
    path = conf_dir / file
    if not path.is_file():
        return None
    values = yaml.safe_load(path.read_text(encoding="utf-8"))[_GROUP]
    settings = training.model_dump(mode="json", include=set(RUN_SETTINGS))
    loader = settings["loader"] | values.get("loader", {})
    try:
        original = TrainingParameters.model_validate({**values, **settings, "loader": loader})
    except ValidationError as error:
        logger.info("the report does not compare the parameters with %s: %s", path, error)
        return None
    found = compare_values(original.model_dump(mode="json"), training.model_dump(mode="json"))
    return RecipeDifference(file, tuple(found))


def select_parameters(parameters: Mapping[str, Any], training: TrainingParameters) -> dict[str, Any]:
    """Return the parameters that affect a run's result as JSON values. They contain no addresses or passwords."""
    groups = {"training": training, **{name: parameters[name] for name in _COMPARED_GROUPS if name in parameters}}
    return {
        **({"recipe": parameters["recipe"]} if parameters.get("recipe") else {}),
        **{
            name: group.model_dump(mode="json") if isinstance(group, BaseModel) else dict(group)
            for name, group in groups.items()
        },
    }


def compare_parameters(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between the `select_parameters` of two runs, or [] if one of them is unknown."""
    return compare_values(before, after) if before and after else []


def compare_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return the values that differ between two nested mappings, with names such as `lr.learning_rate`."""
    left, right = dict(_flatten(before)), dict(_flatten(after))
    names = [*left, *(name for name in right if name not in left)]
    return [
        Difference(name, left.get(name), right.get(name))
        for name in names
        if left.get(name, _MISSING) != right.get(name, _MISSING)
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
