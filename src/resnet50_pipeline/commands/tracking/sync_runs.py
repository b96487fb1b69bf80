"""Implements `kedro sync-runs`, which uploads results that could not reach MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    load_configuration,
)
from resnet50_pipeline.parameters import TrackingParameters, read_group
from resnet50_pipeline.processes.command_line import other_command

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.delivery.reconciliation import Reconciliation


@click.command("sync-runs", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def sync_runs(context: click.Context, /, **options: Any) -> None:
    """Upload results of earlier runs that could not reach MLflow.

    The command also marks runs as KILLED if their process no longer exists. The exit code is 1 if some results are
    still pending.
    """
    with reporting_errors(context):
        project_path = enter_configured_project(options)
        from resnet50_pipeline.tracking.delivery.reconciliation import reconcile_runs
        from resnet50_pipeline.tracking.store import resolve_store

        parameters = load_configuration(options, project_path)["parameters"]
        store = resolve_store(read_group(parameters, "tracking", TrackingParameters), project_path)
        result = reconcile_runs(store, project_path)
        for line in describe(result, store.address):
            click.echo(line)
        context.exit(0 if result.is_complete else 1)


def describe(result: Reconciliation, address: str) -> list[str]:
    """Return one line for each run that was uploaded, has ended, or is pending, and one for the overall state."""
    lines = [f"{box.fate:<10} {box.name}: {box.detail}" for box in result.outboxes]
    lines += [f"{'ended':<10} {name}: KILLED, because its process no longer exists" for name in result.killed]
    if result.problem:
        lines.append(
            f"MLflow at {address} is not responding ({result.problem}) → run `{other_command('sync-runs')}` again once "
            "the server is available"
        )
    elif not result.is_complete:
        lines.append(f"some results have not been uploaded to MLflow at {address} yet")
    elif not lines:
        lines.append(f"MLflow at {address} is up to date")
    return lines
