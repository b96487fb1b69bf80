"""`kedro promote`, `kedro rollback` and `kedro champion`: who the champion is, by a person's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import CONFIGURATION_OPTIONS, log_plain_lines_unless_in_a_terminal
from resnet50_pipeline.commands.registry import open_registry

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.promotion import Move

_WHY = click.Option(["--why"], default="", help="What speaks for it; kept in the journal.")


@click.command("promote", params=[*CONFIGURATION_OPTIONS, _WHY])
@click.argument("version", type=click.IntRange(min=1))
@click.option("--despite-gate", is_flag=True, help="Also a version that did not pass the gate.")
@click.pass_context
def promote(context: click.Context, /, version: int, why: str, *, despite_gate: bool, **options: Any) -> None:
    """Make VERSION of the registered model its champion."""
    log_plain_lines_unless_in_a_terminal()
    with ending_clearly(context):
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.promotion import promote_version

        registry = open_registry(options)
        with asking_mlflow(registry.store):
            move = promote_version(
                registry.store.connect(), registry.model_name, version, despite_gate=despite_gate, why=why
            )
        _show(move)


@click.command("rollback", params=[*CONFIGURATION_OPTIONS, _WHY])
@click.pass_context
def rollback(context: click.Context, /, why: str, **options: Any) -> None:
    """Make the champion before the present one the champion again."""
    log_plain_lines_unless_in_a_terminal()
    with ending_clearly(context):
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.promotion import roll_back

        registry = open_registry(options)
        with asking_mlflow(registry.store):
            move = roll_back(registry.store.connect(), registry.model_name, why)
        _show(move)


@click.command("champion", params=[*CONFIGURATION_OPTIONS])
@click.pass_context
def champion(context: click.Context, /, **options: Any) -> None:
    """List the champions of the registered model, the present one last."""
    log_plain_lines_unless_in_a_terminal()
    with ending_clearly(context):
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.promotion import list_champions

        registry = open_registry(options)
        with asking_mlflow(registry.store):
            entries = list_champions(registry.store.connect(), registry.model_name)
        if not entries:
            click.echo(f"{registry.model_name} has had no champion yet")
        for entry in entries:
            version = "none" if entry.version is None else f"version {entry.version}"
            click.echo(f"{entry.at[:19]}Z  {version:<11}  {entry.action:<8}  {entry.by}  {entry.why}".rstrip())


def _show(move: Move) -> None:
    before = "there was none before" if move.previous is None else f"before it was version {move.previous}"
    click.echo(f"the champion of {move.name} is version {move.champion}; {before}")
