"""Implements `kedro data-doctor`, which finds problems with DVC's locks, lock files and cache."""

from __future__ import annotations

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import enter_project
from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN
from resnet50_pipeline.text import format_bytes, pluralize


@click.command("data-doctor")
@click.option("--quick", is_flag=True, help="Check only the locks and dvc.lock, not the cache.")
@click.option(
    "--remove-damaged",
    is_flag=True,
    help="Delete damaged files from the cache, so that DVC can fetch or write them again.",
)
@click.option("--unsaved", is_flag=True, help="List only the untracked files in DVC's outputs.")
@click.pass_context
def data_doctor(context: click.Context, /, *, quick: bool, remove_damaged: bool, unsaved: bool) -> None:
    """Check DVC's locks, lock files and cache.

    The command reads every cached file of the current version, and prints each problem with a fix. The exit code is 1
    if there are problems.
    """
    if unsaved and (quick or remove_damaged):
        raise click.UsageError(
            "--unsaved cannot be combined with --quick or --remove-damaged → run the checks separately"
        )
    project = enter_project()
    with reporting_errors(context):
        from resnet50_pipeline.commands.dvc import locks, outs

        if unsaved:
            findings = list(outs.find_unsaved_files(project))
            summary = "DVC has stored all files in its outs"
        else:
            findings = [*locks.find_lock_problems(project), *locks.find_lock_file_problems(project)]
            summary = "locks and dvc.lock: no problems"
        if not quick and not unsaved and not findings:
            objects, size = outs.find_damaged_objects(project)
            if remove_damaged and objects:
                count = outs.remove_objects(objects, project)
                click.echo(
                    f"deleted {pluralize(count, 'damaged file')} from the cache → `dvc pull --force` or `dvc repro`"
                )
                return
            findings = [*outs.find_refused_names(project), *outs.describe_damage(objects, project)]
            summary += f"; cache: no damaged files in {format_bytes(size)}"
            if absent := outs.count_absent_files(project):
                summary += (
                    f", but {pluralize(absent, 'file')} in dvc.lock missing from the cache → `dvc pull`, or `dvc "
                    "repro` if no remote has these files"
                )
        if not findings:
            click.echo(summary)
            return
        for finding in findings[:MAX_PROBLEMS_SHOWN]:
            click.echo(str(finding), err=True)
        if len(findings) > MAX_PROBLEMS_SHOWN:
            click.echo(f"... and {len(findings) - MAX_PROBLEMS_SHOWN} more", err=True)
        context.exit(1)
