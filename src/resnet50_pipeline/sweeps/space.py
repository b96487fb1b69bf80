"""Checks the search space against the parameter models, and converts it to Optuna's distributions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ValidationError

from resnet50_pipeline.child_runs.run_file import merge
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.frozen_model import models_of
from resnet50_pipeline.parameters import Choices, IntegerRange, TrainingParameters
from resnet50_pipeline.parameters.sweep import SearchRange
from resnet50_pipeline.text import suggest_name

_GROUP = "training"
# Parameters that the sweep itself sets for each trial.
_RESERVED = {f"{_GROUP}.resume"}
_MAX_COMBINATIONS = 512


def list_paths(model: type[BaseModel] = TrainingParameters, prefix: str = _GROUP) -> list[str]:
    """Return the paths of all values in a parameter group, such as `training.lr.learning_rate`."""
    paths = []
    for name, field in model.model_fields.items():
        sections = models_of(field.annotation)
        paths += [path for section in sections for path in list_paths(section, f"{prefix}.{name}")] or [
            f"{prefix}.{name}"
        ]
    return list(dict.fromkeys(paths))


def require_space(space: Mapping[str, SearchRange], training: Mapping[str, Any]) -> None:
    """Check the search space: every path, every choice and both ends of every range.

    Args:
        space: search range of each parameter, keyed by path.
        training: the `training` group without a trial's values.

    Raises:
        ParameterError: if a path is unknown or reserved, or if `TrainingParameters` rejects a value or a combination of
            values. If every value is valid on its own, the message shows only the first rejected combination.
    """
    problems = [problem for path in space for problem in _check_path(path)]
    if not problems:
        alone = ({path: value} for path, values in space.items() for value in _ends_of(values))
        problems = list(_rejections(alone, training))
    if not problems:
        combinations = itertools.product(*map(_ends_of, space.values()))
        together = (dict(zip(space, values, strict=True)) for values in combinations)
        problems = list(itertools.islice(_rejections(itertools.islice(together, _MAX_COMBINATIONS), training), 1))
    if problems:
        raise ParameterError("\n".join(f"sweep.space: {problem}" for problem in problems))


def to_distributions(space: Mapping[str, SearchRange]) -> dict[str, BaseDistribution]:
    """Convert the search space to Optuna's distributions. Choices that are lists are encoded as JSON text."""

    def convert(values: SearchRange) -> BaseDistribution:
        if isinstance(values, Choices):
            return CategoricalDistribution(
                [json.dumps(choice) if isinstance(choice, tuple) else choice for choice in values.choices]
            )
        if isinstance(values, IntegerRange):
            return IntDistribution(values.low, values.high, log=values.log)
        return FloatDistribution(values.low, values.high, log=values.log, step=values.step)

    return {path: convert(values) for path, values in space.items()}


def decode_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Decode the values suggested by Optuna, keyed by path. JSON text becomes a list again."""
    is_list = {path: isinstance(value, str) and value.startswith("[") for path, value in params.items()}
    return {path: json.loads(value) if is_list[path] else value for path, value in params.items()}


def nest(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"training": {"lr": {"learning_rate": 0.01}}}` for `{"training.lr.learning_rate": 0.01}`."""
    nested: dict[str, Any] = {}
    for path, value in params.items():
        *sections, name = path.split(".")
        section = nested
        for key in sections:
            section = section.setdefault(key, {})
        section[name] = value
    return nested


def _check_path(path: str) -> Iterator[str]:
    known = list_paths()
    if path in _RESERVED:
        yield f"{path} is set by the sweep for each trial; remove this key"
    elif path not in known:
        hint = suggest_name(path, known) or "see docs/sweeps.md for the valid paths"
        yield f"{path} is not a single value in the {_GROUP} group; {hint}"


def _ends_of(values: SearchRange) -> tuple[Any, ...]:
    return values.choices if isinstance(values, Choices) else (values.low, values.high)


def _rejections(combinations: Iterator[dict[str, Any]], training: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each combination of values that `TrainingParameters` rejects."""
    for changes in combinations:
        try:
            TrainingParameters.model_validate(merge({_GROUP: training}, nest(changes))[_GROUP])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
            shown = (
                f"{path}={value:g}" if isinstance(value, float) else f"{path}={json.dumps(value)}"
                for path, value in changes.items()
            )
            yield f"{', '.join(shown)}: invalid: {reason}"
