"""The search space: paths of our own parameters, checked by their models, as Optuna's distributions."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import Choices, FloatRange, IntegerRange, TrainingParameters
from resnet50_pipeline.sweeps.optional import import_optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = FloatRange | IntegerRange | Choices
GROUP = "training"
# What a trial's own folder and its going on after a kill hang on.
_OF_THE_SWEEP = {f"{GROUP}.output_dir", f"{GROUP}.resume"}
# Ends of all ranges together are tried on the models up to so many combinations.
_MAX_CORNERS = 512


def list_paths(model: type[BaseModel] = TrainingParameters, prefix: str = GROUP) -> list[str]:
    """Return the path of every single value of a group, as `training.lr.learning_rate`."""
    paths = []
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        paths += list_paths(field.annotation, f"{prefix}.{name}") if is_section else [f"{prefix}.{name}"]  # type: ignore[arg-type]
    return paths


def require_space(space: Mapping[str, Values], training: Mapping[str, Any]) -> None:
    """Check every path, every end of a range and every choice, before anything is started.

    Args:
        space: by path.
        training: the group `training` as the trials have it but for the space.

    Raises:
        ParameterError: with every path that is none, and every value that the group's model refuses.
    """
    problems = [problem for path in space for problem in _path_problems(path)]
    if problems:
        raise ParameterError("\n".join(problems))
    for path, values in space.items():
        for value in ends_of(values):
            if refusal := _refusal({path: value}, training):
                problems.append(f"sweep.space: {path}={_shown(value)} is refused: {refusal}")
    if not problems:
        problems = list(itertools.islice(_corner_problems(space, training), 1))
    if problems:
        raise ParameterError("\n".join(problems))


def ends_of(values: Values) -> tuple[Any, ...]:
    """Return the two ends of a range, or all choices."""
    return values.choices if isinstance(values, Choices) else (values.low, values.high)


def to_distributions(space: Mapping[str, Values]) -> dict[str, BaseDistribution]:
    """Return the space as Optuna has it; a choice that is a list is its JSON text there."""
    distributions = import_optuna().distributions

    def convert(values: Values) -> Any:
        if isinstance(values, Choices):
            return distributions.CategoricalDistribution([_encode(choice) for choice in values.choices])
        if isinstance(values, IntegerRange):
            return distributions.IntDistribution(values.low, values.high, log=values.log)
        return distributions.FloatDistribution(values.low, values.high, log=values.log, step=values.step)

    return {path: convert(values) for path, values in space.items()}


def decode_params(params: Mapping[str, Any], space: Mapping[str, Values]) -> dict[str, Any]:
    """Return what Optuna chose, by path, as parameters have it: lists as lists."""
    decoded = {}
    for path, value in params.items():
        values = space.get(path)
        lists = (
            {_encode(choice): list(choice) for choice in values.choices if isinstance(choice, tuple)}
            if isinstance(values, Choices)
            else {}
        )
        decoded[path] = lists.get(value, value) if isinstance(value, str) else value
    return decoded


def nest(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"training": {"lr": {"learning_rate": 0.01}}}` of `{"training.lr.learning_rate": 0.01}`."""
    nested: dict[str, Any] = {}
    for path, value in params.items():
        *sections, name = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `change`; sections are merged, all else is replaced."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _path_problems(path: str) -> Iterator[str]:
    known = list_paths()
    if path in _OF_THE_SWEEP:
        yield f"sweep.space: {path} is set by the sweep itself, for each trial; take it out"
    elif path not in known:
        nearest = difflib.get_close_matches(path, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "docs/sweeps.md says which there are"
        yield f"sweep.space: {path} is no single value of the group {GROUP}; {hint}"


def _refusal(changes: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Return why the model of the group refuses it with these values; "" where it does not."""
    try:
        TrainingParameters.model_validate(merge({GROUP: training}, nest(changes))[GROUP])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return ""


def _corner_problems(space: Mapping[str, Values], training: Mapping[str, Any]) -> Iterator[str]:
    """Yield combinations that the model refuses though it takes each of their values alone."""
    combinations = itertools.product(*(ends_of(values) for values in space.values()))
    for combination in itertools.islice(combinations, _MAX_CORNERS):
        changes = dict(zip(space, combination, strict=True))
        if refusal := _refusal(changes, training):
            shown = ", ".join(f"{path}={_shown(value)}" for path, value in changes.items())
            yield f"sweep.space: {shown} together are refused: {refusal}"


def _encode(choice: Any) -> Any:
    return json.dumps(choice) if isinstance(choice, tuple) else choice


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
