"""`kedro preflight`: checks everything that a run needs, and starts nothing."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    environment_of,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
)
from resnet50_pipeline.exceptions import MissingLibraryError
from resnet50_pipeline.hooks.preflight import PLACES, require_agreeing_paths, require_known_groups
from resnet50_pipeline.pipeline_registry import makes_sample

if TYPE_CHECKING:
    from resnet50_pipeline.preflight.findings import Finding
    from resnet50_pipeline.preflight.plan import RunPlan, Start


@click.command("preflight", params=[*CONFIGURATION_OPTIONS])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def preflight(context: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Check what the whole chain needs, and print what it would start; starts nothing and writes nothing.

    Exit code 0, or 1 where something is found that no run can end well with.
    """
    with ending_clearly(context):
        project_path = enter_configured_project(options)
        log_plain_lines_unless_in_a_terminal()
        plan = plan_run(options, project_path)
        from resnet50_pipeline.preflight.checks import check_run
        from resnet50_pipeline.preflight.findings import blocking

        findings = check_run(plan)
        _show(findings, plan, as_json=as_json)
        context.exit(1 if blocking(findings) else 0)


def plan_run(options: dict[str, Any], project_path: Path) -> RunPlan:
    """Return what `kedro run` with these options is going to do.

    Raises:
        ParameterError: a parameter breaks its rules, or a path is not that of the catalog.
    """
    from resnet50_pipeline.preflight.plan import make_plan

    configuration = load_configuration(options, project_path)
    parameters, catalog = configuration["parameters"], configuration["catalog"]
    places = {name: project_path / catalog[name]["filepath"] for name in PLACES if name in catalog}
    require_known_groups(parameters)
    require_agreeing_paths(parameters, places)
    return make_plan(parameters, places, project_path, makes_sample=makes_sample(environment_of(options)))


def _show(findings: list[Finding], plan: RunPlan, *, as_json: bool) -> None:
    from resnet50_pipeline.preflight import report

    start = _start_of(plan)
    if as_json:
        click.echo(report.as_json(findings, start))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 has no ✓
    width = shutil.get_terminal_size().columns
    click.echo(f"{report.describe(plan)}\n")
    colours = {"ok": "green", "warning": "yellow", "blocking": "red"}
    for status, line in report.render_table(findings, width):
        click.echo(line if status is None else click.style(line[0], fg=colours[status], bold=True) + line[1:])
    click.echo(f"\n{report.summarize(findings)}\n")
    for title, lines in report.render_start(start, width) if start is not None else ():
        click.secho(title, bold=True)
        click.echo("\n".join(lines) + "\n")


def _start_of(plan: RunPlan) -> Start | None:
    """Return what would be started; None where the libraries are missing that the YAML's operators import."""
    try:
        return plan.start()
    except MissingLibraryError:
        return None
