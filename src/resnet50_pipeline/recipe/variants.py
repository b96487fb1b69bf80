"""Validates sections that have several variants, such as the learning rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BeforeValidator

from resnet50_pipeline.frozen_model import FiniteModel


def chosen_by_name(*variants: type[FiniteModel]) -> BeforeValidator:
    """Return a validator that selects a model by the `name` key and builds it from the mapping.

    With pydantic's discriminated unions, the path in an error would include the variant (`lr.Cosine.learning_rate`).
    With this validator, the path is the same as in the configuration file (`lr.learning_rate`).

    Because configuration files are merged, a mapping can contain keys of another variant from a file with lower
    precedence. These keys are dropped if their value is null, false, zero or empty. Otherwise, they are errors.

    The validator raises ValueError if no variant has the name, or if a key belongs only to other variants.
    """
    by_name = {get_args(variant.model_fields["name"].annotation)[0]: variant for variant in variants}
    default = variants[0].model_fields["name"].get_default()

    def choose(content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        name = content.get("name", default)
        if name not in by_name:
            raise ValueError(f"name is {name!r}; set one of {', '.join(by_name)}")
        others = {key for variant in variants for key in variant.model_fields} - set(by_name[name].model_fields)
        refused = [f"{key} ({content[key]!r})" for key in content if key in others and content[key]]
        if refused:
            raise ValueError(f"{name} does not accept {', '.join(refused)}; set each to null")
        return by_name[name].model_validate({key: value for key, value in content.items() if key not in others})

    return BeforeValidator(choose)
