"""The registry that the project's configuration names, for commands that work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from resnet50_pipeline.commands.project import enter_project, load_configuration
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrackingParameters

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.store import Store


@dataclass(frozen=True)
class Registry:
    """Where versions are, and of which model.

    Attributes:
        store: of `params:tracking`.
        model_name: of `params:model_registration`.
    """

    store: Store
    model_name: str


def open_registry(options: dict[str, Any]) -> Registry:
    """Return the registry of the environment and parameters that a command's options name.

    Raises:
        ParameterError: `tracking` or `model_registration` breaks its rules.
    """
    from resnet50_pipeline.tracking.store import resolve_store

    project_path = enter_project()
    parameters = load_configuration(options, project_path)["parameters"]
    try:
        tracking = TrackingParameters.model_validate(parameters.get("tracking"))
        registration = ModelRegistrationParameters.model_validate(parameters.get("model_registration"))
    except ValidationError as error:
        raise ParameterError(str(error)) from error
    return Registry(resolve_store(tracking, project_path), registration.model_name)
