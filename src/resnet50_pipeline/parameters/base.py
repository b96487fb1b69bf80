"""What every `params:` group has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ParameterModel(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
