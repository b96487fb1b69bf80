"""Converts parameter groups to models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from resnet50_pipeline.exceptions import ParameterError

Group = TypeVar("Group", bound=BaseModel)


def read_group(parameters: Mapping[str, Any], group: str, model: type[Group]) -> Group:
    """Validate a parameter group and return it as an instance of `model`.

    Raises:
        ParameterError: if a key is unknown or missing, or a value is invalid.
    """
    value = parameters.get(group, {})
    if isinstance(value, model):  # built by Kedro, if a node of the run uses the group
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ParameterError(f"{group}: {error}") from error
