"""Implements `kedro join`, which runs this machine's ranks in a training run on several machines."""

from __future__ import annotations

from typing import Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.preflight import plan_run
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
)
from resnet50_pipeline.preflight.dataset import require_dataset


@click.command("join", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def join(context: click.Context, /, **options: Any) -> None:
    """Run this machine's ranks in a training run on several machines.

    Start training with `kedro run` on machine 0, and run this command on the other machines.
    """
    from resnet50_pipeline.paddleclas.launch.machines import join_training
    from resnet50_pipeline.preflight.checks import check_start_of_ranks
    from resnet50_pipeline.preflight.findings import report_findings

    with reporting_errors(context):
        project_path = enter_configured_project(options)
        plan = plan_run(options, project_path)
        require_dataset(plan.dataset_root, plan.dataset)
        report_findings(check_start_of_ranks(plan, trains=False))
        join_training(plan.training.launch, plan.training_dir)
