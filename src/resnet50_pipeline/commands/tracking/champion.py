"""Implements `kedro promote`, `kedro rollback` and `kedro champion`, which manage a model's champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import CONFIGURATION_OPTIONS
from resnet50_pipeline.commands.tracking.registry import open_registry

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.registry.promotion import Move

_WHY = click.Option(["--why"], default="", help="Reason for the change, recorded in the journal.")


@click.command("promote", params=[*CONFIGURATION_OPTIONS, _WHY])
@click.argument("version", type=click.IntRange(min=1))
@click.option("--despite-gate", is_flag=True, help="Promote VERSION even if it failed the gate.")
@click.pass_context
def promote(context: click.Context, /, version: int, why: str, *, despite_gate: bool, **options: Any) -> None:
    """Make VERSION the champion of the registered model."""
    with reporting_errors(context):
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.registry.promotion import promote_version

        registry = open_registry(options)
        with asking_mlflow(registry.store):
            move = promote_version(
                registry.store.connect(), registry.model_name, version, despite_gate=despite_gate, why=why
            )
        _show(move)


@click.command("rollback", params=[*CONFIGURATION_OPTIONS, _WHY])
@click.pass_context
def rollback(context: click.Context, /, why: str, **options: Any) -> None:
    """Restore the previous champion."""
    with reporting_errors(context):
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.registry.promotion import roll_back

        registry = open_registry(options)
        with asking_mlflow(registry.store):
            move = roll_back(registry.store.connect(), registry.model_name, why)
        _show(move)


@click.command("champion", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def champion(context: click.Context, /, **options: Any) -> None:
    """List all champions of the registered model, the current one last."""
    with reporting_errors(context):
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.registry.promotion import list_champions

        registry = open_registry(options)
        with asking_mlflow(registry.store):
            entries = list_champions(registry.store.connect(), registry.model_name)
        if not entries:
            click.echo(f"{registry.model_name} has never had a champion")
        for entry in entries:
            version = "none" if entry.version is None else f"version {entry.version}"
            click.echo(f"{entry.at[:19]}Z  {version:<11}  {entry.action:<8}  {entry.by}  {entry.why}".rstrip())


def _show(move: Move) -> None:
    if move.previous == move.champion:
        click.echo(f"version {move.champion} of {move.name} is already the champion; nothing to change")
        return
    previous = "no previous champion" if move.previous is None else f"previously version {move.previous}"
    click.echo(f"the champion of {move.name} is version {move.champion}; {previous}")
