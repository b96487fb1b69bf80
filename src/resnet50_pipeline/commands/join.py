"""`kedro join`: the ranks of one more machine."""

from __future__ import annotations

from typing import Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.preflight import plan_run
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.preflight.dataset import require_dataset


@click.command("join", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def join(context: click.Context, /, **options: Any) -> None:
    """Run this machine's ranks of a training on several machines, which `kedro run` starts on machine 0."""
    from resnet50_pipeline.paddleclas.machines import join_training
    from resnet50_pipeline.preflight.checks import check_start_of_ranks
    from resnet50_pipeline.preflight.findings import refuse_or_warn

    with ending_clearly(context):
        project_path = enter_configured_project(options)
        log_plain_lines_unless_in_a_terminal()
        plan = plan_run(options, project_path)
        require_dataset({"dataset": plan.dataset})
        refuse_or_warn(check_start_of_ranks(plan, trains=False))
        join_training(plan.training)
