"""The registry that the project's configuration names, for commands that work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.commands.project import (
    enter_configured_project,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrackingParameters, as_group

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

    project_path = enter_configured_project(options)
    log_plain_lines_unless_in_a_terminal()
    parameters = load_configuration(options, project_path)["parameters"]
    tracking = as_group(parameters.get("tracking"), "tracking", TrackingParameters)
    registration = as_group(parameters.get("model_registration"), "model_registration", ModelRegistrationParameters)
    return Registry(resolve_store(tracking, project_path), registration.model_name)
