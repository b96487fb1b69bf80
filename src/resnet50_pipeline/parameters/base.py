"""What every `params:` group has in common."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from resnet50_pipeline.exceptions import ParameterError

Group = TypeVar("Group", bound=BaseModel)


class ParameterModel(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def as_group(value: Any, group: str, model: type[Group]) -> Group:
    """Return the value of `params:<group>` as its model; Kedro has made it one where a node of the run takes it.

    Raises:
        ParameterError: the group breaks its rules.
    """
    if isinstance(value, model):
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ParameterError(f"{group}: {error}") from error
