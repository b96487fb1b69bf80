"""The page of all parameters: a table a group, from the models and from what conf/ gives them."""

from __future__ import annotations

from typing import Any

from models import describe_rule, describe_type, inner_model, show_value, table, walk_groups
from pydantic import BaseModel

from resnet50_pipeline import parameters
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

Values live in `conf/<environment>/parameters_*.yml`; an environment states only what differs from `conf/base`,
`conf/local` is yours, and `kedro run --params group.key=value` overrides one for one run. A key that no table here has,
or a value that breaks its rule, stops the run in seconds, with its path.

The columns *sample* (`conf/base`), *ImageNet* (`--env imagenet`, with the recipe `reference`) and *test* (`--env test`,
where it differs from the sample) hold what a run is given; an empty cell means none. What else a recipe may say of
images is a table in [Recipes](../recipes.md#a-recipe-of-your-own).
"""


def render_parameters() -> str:
    """Return the page's Markdown."""
    given = {name: _effective(environment) for name, environment in ENVIRONMENTS.items()}
    lines = [HEAD]
    for group, model in GROUPS.items():
        for path, part in walk_groups(group, model):
            values = {name: _at(every, path) for name, every in given.items()}
            rows = table(("parameter", *ENVIRONMENTS, "meaning"), _rows(part, values))
            heading = "##" if path == group else "###"
            lines += [f"{heading} `{path}`", "", *_describe(part, path), "", '<div class="wide" markdown>', ""]
            lines += [*rows, "", "</div>", ""]
    return "\n".join(lines)


def _effective(environment: str) -> dict[str, Any]:
    # conf/local, which is the reader's own, is no part of the page.
    arguments: dict[str, Any] = {**CONFIG_LOADER_ARGS, "env": environment}
    loader = RecipeConfigLoader("conf", **arguments)
    found = loader["parameters"]
    return {name: model.model_validate(found[name]).model_dump(mode="json") for name, model in GROUPS.items()}


def _at(values: dict[str, Any], path: str) -> dict[str, Any]:
    for key in path.split("."):
        values = values[key]
    return values


def _describe(model: type[BaseModel], path: str) -> list[str]:
    sentence = (model.__doc__ or "").strip().removeprefix(f"`{path}`: ").removeprefix(f"`{path}`.")
    return [sentence[:1].upper() + sentence[1:]]


def _rows(model: type[BaseModel], values: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        if inner_model(field) is not None:
            continue
        rule = ", ".join(filter(None, (describe_type(field.annotation), describe_rule(field))))
        sample, imagenet, test = (show_value(values[column][name]) for column in ENVIRONMENTS)
        rows.append((f"`{name}`<br>{rule}", sample, imagenet, test if test != sample else "", field.description or ""))
    return rows
