"""`kedro sync-runs`: what processes that are gone could not tell MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.parameters import TrackingParameters, as_group

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.reconciliation import Reconciliation


@click.command("sync-runs", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def sync_runs(context: click.Context, /, **options: Any) -> None:
    """Tell MLflow what earlier runs could not tell it, and end the runs of processes that are gone.

    Exit code 0 where nothing is left to be told, 1 where something still waits.
    """
    with ending_clearly(context):
        project_path = enter_configured_project(options)
        log_plain_lines_unless_in_a_terminal()
        from resnet50_pipeline.tracking.reconciliation import reconcile_runs
        from resnet50_pipeline.tracking.store import resolve_store

        parameters = load_configuration(options, project_path)["parameters"]
        store = resolve_store(as_group(parameters.get("tracking"), "tracking", TrackingParameters), project_path)
        result = reconcile_runs(store, project_path)
        for line in describe(result, store.address):
            click.echo(line)
        context.exit(0 if result.is_complete else 1)


def describe(result: Reconciliation, address: str) -> list[str]:
    """Return a line for each run that something was done about, or that still waits, and one that sums up."""
    lines = [f"{box.fate:<10} {box.name}: {box.detail}" for box in result.outboxes]
    lines += [f"{'ended':<10} {name}: KILLED, its process is gone" for name in result.killed]
    if result.problem:
        lines.append(f"MLflow at {address} does not answer ({result.problem}); once it does, run this again")
    elif not result.is_complete:
        lines.append(f"something still waits, and MLflow at {address} was not told it")
    elif not lines:
        lines.append(f"nothing was left to tell MLflow at {address}")
    return lines
