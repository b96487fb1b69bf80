"""Generates the page that lists all parameters in one table per group, from the models and the values in conf/."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from models import describe_rule, describe_type, show_value, table, walk_groups
from pydantic import BaseModel

from resnet50_pipeline import parameters
from resnet50_pipeline.frozen_model import models_of
from resnet50_pipeline.recipes import RecipeConfigLoader
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

GROUPS: dict[str, type[BaseModel]] = {
    "dataset": parameters.DatasetParameters,
    "data_validation": parameters.DataValidationParameters,
    "data_preparation": parameters.DataPreparationParameters,
    "training": parameters.TrainingParameters,
    "evaluation": parameters.EvaluationParameters,
    "model_registration": parameters.ModelRegistrationParameters,
    "tracking": parameters.TrackingParameters,
    "logs": parameters.LogParameters,
    "sweep": parameters.SweepParameters,
    "sample_data": parameters.SampleDataParameters,
}
ENVIRONMENTS = {"sample": "base", "ImageNet": "imagenet", "test": "test"}
HEAD = """\
---
hide: [toc]
---

# Parameters

Parameters are set in `conf/<environment>/parameters_*.yml`. An environment only contains the values that differ from
`conf/base`. `conf/local` is for your own values. `kedro run --params group.key=value` overrides a value for one run. If
a key is unknown or a value is invalid, the run stops within seconds with an error that shows the key's path.

The columns *sample* (`conf/base`), *ImageNet* (`--env imagenet` with the `reference` recipe) and *test* (`--env test`,
if it differs from the sample) show the values that a run uses. Empty cells mean no value.
[Recipes](../recipes.md#your-own-recipe) lists additional options for a recipe.
"""


def render_parameters() -> str:
    """Return the page's Markdown."""
    given = {name: _effective(environment) for name, environment in ENVIRONMENTS.items()}
    lines = [HEAD]
    for group, model in GROUPS.items():
        for path, part in walk_groups(group, model):
            values = {name: _at(every, path, part) for name, every in given.items()}
            rows = table(("parameter", *ENVIRONMENTS, "meaning"), _rows(part, values))
            heading = "##" if path == group else "###"
            lines += [
                f"{heading} `{path}`{_variant(part)}",
                "",
                *_describe(part, path),
                "",
                '<div class="wide" markdown>',
                "",
            ]
            lines += [*rows, "", "</div>", ""]
    return "\n".join(lines)


def _effective(environment: str) -> dict[str, Any]:
    # Exclude conf/local, which belongs to the user.
    arguments: dict[str, Any] = {**CONFIG_LOADER_ARGS, "env": environment}
    loader = RecipeConfigLoader("conf", **arguments)
    found = loader["parameters"]
    return {name: model.model_validate(found[name]).model_dump(mode="json") for name, model in GROUPS.items()}


def _at(values: dict[str, Any], path: str, model: type[BaseModel]) -> dict[str, Any]:
    for key in path.split("."):
        values = values[key]
    is_given = values.get("name", _name(model)) == _name(model) or _name(model) is None
    return values if is_given else {}


def _name(model: type[BaseModel]) -> str | None:
    """Return the name of a variant, such as Cosine, or None for a group without variants."""
    field = model.model_fields.get("name")
    literal = () if field is None or get_origin(field.annotation) is not Literal else get_args(field.annotation)
    return literal[0] if len(literal) == 1 else None


def _variant(model: type[BaseModel]) -> str:
    return "" if _name(model) is None else f" with `name: {_name(model)}`"


def _describe(model: type[BaseModel], path: str) -> list[str]:
    sentence = (model.__doc__ or "").strip().removeprefix(f"`{path}`: ").removeprefix(f"`{path}`.")
    return [sentence[:1].upper() + sentence[1:]]


def _rows(model: type[BaseModel], values: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        if models_of(field.annotation):
            continue
        rule = ", ".join(filter(None, (describe_type(field.annotation), describe_rule(field))))
        sample, imagenet, test = (show_value(values[column].get(name)) for column in ENVIRONMENTS)
        rows.append((f"`{name}`<br>{rule}", sample, imagenet, test if test != sample else "", field.description or ""))
    return rows
