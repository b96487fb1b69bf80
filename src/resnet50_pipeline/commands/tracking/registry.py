"""Opens the model registry configured in the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.commands.project import (
    enter_configured_project,
    load_configuration,
)
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrackingParameters, read_group

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.store import Store


@dataclass(frozen=True)
class Registry:
    """Access to the versions of a registered model.

    Attributes:
        store: the MLflow store that `params:tracking` defines.
        model_name: the name of the registered model in `params:model_registration`.
    """

    store: Store
    model_name: str


def open_registry(options: dict[str, Any]) -> Registry:
    """Change to the project folder, and return the model registry that the command's options select.

    Raises:
        ParameterError: if the parameter group `tracking` or `model_registration` is invalid.
    """
    from resnet50_pipeline.tracking.store import resolve_store

    project_path = enter_configured_project(options)
    parameters = load_configuration(options, project_path)["parameters"]
    tracking = read_group(parameters, "tracking", TrackingParameters)
    registration = read_group(parameters, "model_registration", ModelRegistrationParameters)
    return Registry(resolve_store(tracking, project_path), registration.model_name)
