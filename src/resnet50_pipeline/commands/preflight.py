"""Implements `kedro preflight`, which checks the requirements of a run without starting it."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import (
    CONFIGURATION_OPTIONS,
    enter_configured_project,
    environment_of,
    load_configuration,
)
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.pipeline_registry import makes_sample
from resnet50_pipeline.preflight.dataset import require_sample
from resnet50_pipeline.preflight.parameter_groups import CHECKED_PATHS, require_known_groups

if TYPE_CHECKING:
    from resnet50_pipeline.preflight.findings import Finding
    from resnet50_pipeline.preflight.plan import RunPlan, Start


@click.command("preflight", params=[*CONFIGURATION_OPTIONS])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def preflight(context: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Check all requirements of a run.

    The command checks all stages, and prints the launch command for training with its environment and YAML. It does not
    start training or write files. The exit code is 1 if a run would fail.
    """
    with reporting_errors(context):
        project_path = enter_configured_project(options)
        plan = plan_run(options, project_path)
        from resnet50_pipeline.preflight.checks import check_run
        from resnet50_pipeline.preflight.findings import blocking

        findings = check_run(plan)
        _show(findings, plan, as_json=as_json)
        context.exit(1 if blocking(findings) else 0)


def plan_run(options: dict[str, Any], project_path: Path) -> RunPlan:
    """Return the plan for a `kedro run` with these options.

    Raises:
        ParameterError: if a parameter is invalid, or if the run would replace the user's dataset with the sample.
    """
    from resnet50_pipeline.preflight.plan import make_plan

    configuration = load_configuration(options, project_path)
    parameters, catalog = configuration["parameters"], configuration["catalog"]
    places = {name: shorten_path(project_path / catalog[name]["filepath"]) for name in CHECKED_PATHS if name in catalog}
    require_known_groups(parameters)
    environment = environment_of(options)
    if makes_sample(environment):
        require_sample(environment, options["params"] or {}, is_sample=True)
    return make_plan(parameters, places, project_path, makes_sample=makes_sample(environment))


def _show(findings: list[Finding], plan: RunPlan, *, as_json: bool) -> None:
    from resnet50_pipeline.preflight import report

    start = _start_of(plan)
    if as_json:
        click.echo(report.as_json(findings, start))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # terminals without UTF-8 cannot print ✓
    width = shutil.get_terminal_size().columns
    click.echo(f"{report.describe(plan)}\n")
    colors = {"ok": "green", "warning": "yellow", "blocking": "red"}
    for status, line in report.render_table(findings, width):
        click.echo(line if status is None else click.style(line[0], fg=colors[status], bold=True) + line[1:])
    click.echo(f"\n{report.summarize(findings)}\n")
    for title, lines in report.render_start(start, width) if start is not None else ():
        click.secho(title, bold=True)
        click.echo("\n".join(lines) + "\n")


def _start_of(plan: RunPlan) -> Start | None:
    """Return the launch command and YAML of the run, or None if OpenCV, which renders the YAML, cannot be imported."""
    try:
        return plan.start()
    except ImportError:
        return None
