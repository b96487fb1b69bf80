"""`kedro join`: the ranks of one more machine."""

from __future__ import annotations

from typing import Any

import click
from pydantic import ValidationError

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_project,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.dataset import require_dataset


@click.command("join", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def join(context: click.Context, /, **options: Any) -> None:
    """Run this machine's ranks of a training on several machines, which `kedro run` starts on machine 0."""
    from resnet50_pipeline.paddleclas.machines import join_training

    project_path = enter_project()
    log_plain_lines_unless_in_a_terminal()
    with ending_clearly(context):
        parameters = load_configuration(options, project_path)["parameters"]
        require_dataset(parameters)
        join_training(_training_parameters(parameters))


def _training_parameters(parameters: dict[str, Any]) -> TrainingParameters:
    try:
        return TrainingParameters.model_validate(parameters.get("training", {}))
    except ValidationError as error:
        raise ParameterError(f"training: {error}") from error
