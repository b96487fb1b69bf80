"""`kedro data-doctor`: what is wrong with DVC's locks, its lock files and its cache, and how it is mended."""

from __future__ import annotations

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import enter_project, log_plain_lines_unless_in_a_terminal
from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN


@click.command("data-doctor")
@click.option("--quick", is_flag=True, help="Look at the locks and dvc.lock only; do not read the cache.")
@click.option("--remove-damaged", is_flag=True, help="Delete damaged files of the cache, so that DVC gets them anew.")
@click.pass_context
def data_doctor(context: click.Context, /, *, quick: bool, remove_damaged: bool) -> None:
    """Say who holds DVC's locks, whether a dvc.lock was cut off, and which files of the cache are damaged.

    Reads all that the present version has in the cache. Exit code 0, or 1 where something is wrong; each finding ends
    with the command that mends it.
    """
    project = enter_project()
    log_plain_lines_unless_in_a_terminal()
    with ending_clearly(context):
        from resnet50_pipeline.commands import dvc_state

        findings = [*dvc_state.find_lock_problems(project), *dvc_state.find_lock_file_problems(project)]
        summary = "locks and dvc.lock are as they should be"
        if not quick and not findings:
            objects, size = dvc_state.find_damaged_objects(project)
            if remove_damaged and objects:
                count = dvc_state.remove_objects(objects, project)
                click.echo(f"{count} damaged files of the cache deleted; now `dvc pull --force`, or `dvc repro`")
                return
            findings = dvc_state.describe_damage(objects, project)
            summary += f"; so is the cache, {size / 1e6:,.0f} MB of it read"
        if not findings:
            click.echo(summary)
            return
        for finding in findings[:MAX_PROBLEMS_SHOWN]:
            click.echo(str(finding), err=True)
        if len(findings) > MAX_PROBLEMS_SHOWN:
            click.echo(f"... and {len(findings) - MAX_PROBLEMS_SHOWN} more", err=True)
        context.exit(1)
