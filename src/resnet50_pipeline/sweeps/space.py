"""Converts the search space to Optuna's distributions, and checks it against the training parameters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution

from resnet50_pipeline.child_runs.run_file import merge
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SearchRange, TrainingParameters, read_group

_GROUP = "training"
_MAX_COMBINATIONS = 512


def require_space(space: Mapping[str, SearchRange], training: Mapping[str, Any]) -> None:
    """Check the search space: every path, every choice and both ends of every range.

    Args:
        space: search range of each parameter, keyed by path.
        training: the `training` group without a trial's values.

    Raises:
        ParameterError: if Optuna rejects a range, or if `TrainingParameters` rejects a path, a value or a combination
            of values. If every value is valid on its own, the message shows only the first rejected combination.
    """
    to_distributions(space)
    ends = {path: values.choices or (values.low, values.high) for path, values in space.items()}
    problems = [_find_problem(({path: value} for value in values), training) for path, values in ends.items()]
    if not any(problems):
        together = (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
        problems = [_find_problem(itertools.islice(together, _MAX_COMBINATIONS), training)]
    if any(problems):
        raise ParameterError("\n".join(filter(None, problems)))


def to_distributions(space: Mapping[str, SearchRange]) -> dict[str, BaseDistribution]:
    """Convert the search space to Optuna's distributions. Choices that are lists are encoded as JSON text.

    Raises:
        ParameterError: if Optuna rejects a range, for example because low is greater than high.
    """
    distributions = {}
    for path, values in space.items():
        try:
            distributions[path] = _to_distribution(values)
        except ValueError as error:
            raise ParameterError(f"sweep.space: {path}: {error}") from error
    return distributions


def nest(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"training": {"lr": {"learning_rate": 0.01}}}` for `{"training.lr.learning_rate": 0.01}`.

    Lists that `to_distributions` has encoded as JSON text become lists again.
    """
    nested: dict[str, Any] = {}
    for path, value in params.items():
        *sections, name = path.split(".")
        section = nested
        for key in sections:
            section = section.setdefault(key, {})
        section[name] = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return nested


def _to_distribution(values: SearchRange) -> BaseDistribution:
    kind = "categorical" if values.choices is not None else "int" if values.integer else "float"
    choices = [json.dumps(one) if isinstance(one, tuple) else one for one in values.choices or ()]
    return json_to_distribution(json.dumps({"type": kind, **values.model_dump(), "choices": choices}))


def _find_problem(combinations: Iterable[Mapping[str, Any]], training: Mapping[str, Any]) -> str | None:
    """Describe the first combination of values that `TrainingParameters` rejects. Return None if there is none."""
    for values in combinations:
        try:
            read_group(merge({_GROUP: training}, nest(values)), _GROUP, TrainingParameters)
        except ParameterError as error:
            shown = ", ".join(f"{path}={value}" for path, value in values.items())
            return f"sweep.space: {shown} is invalid\n{error}"
    return None
