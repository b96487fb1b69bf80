"""Implements `kedro preflight`, which checks the requirements of a run without starting one."""

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
from resnet50_pipeline.files import shorten_path, write_text
from resnet50_pipeline.pipeline_registry import makes_sample
from resnet50_pipeline.preflight.dataset import require_sample
from resnet50_pipeline.preflight.parameter_groups import CHECKED_PATHS, require_known_groups

BLOCKED_EXIT_CODE = 4
"""Exit code if a check has a blocking finding. Other errors have the exit code 1."""

if TYPE_CHECKING:
    from resnet50_pipeline.preflight.findings import Finding
    from resnet50_pipeline.preflight.plan import RunPlan, Start


@click.command("preflight", params=[*CONFIGURATION_OPTIONS])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--verbose", "-v", is_flag=True, help="Also print the launch command, its environment and the YAML file.")
@click.option(
    "--details",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the launch command, its environment and the YAML file to this file.",
)
@click.pass_context
def preflight(context: click.Context, /, *, as_json: bool, verbose: bool, details: Path | None, **options: Any) -> None:
    """Check all requirements of a run.

    The command checks all stages and prints a table. It does not start training, and writes nothing except the
    --details file. The exit code is 4 if a run would fail.
    """
    with reporting_errors(context):
        project_path = enter_configured_project(options)
        plan = plan_run(options, project_path)
        from resnet50_pipeline.preflight import report
        from resnet50_pipeline.preflight.checks import check_run
        from resnet50_pipeline.preflight.findings import blocking

        findings = check_run(plan)
        start = _start_of(plan)
        if details is not None:
            write_text(details, _describe_start(start))
        if as_json:
            click.echo(report.as_json(findings, start))
        else:
            _show(findings, plan, _describe_start(start) if verbose else "")
        context.exit(BLOCKED_EXIT_CODE if blocking(findings) else 0)


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
    workspace = configuration["globals"].get("workspace")
    return make_plan(
        parameters,
        places,
        project_path,
        makes_sample=makes_sample(environment),
        workspace=None if workspace is None else Path(workspace),
    )


def _show(findings: list[Finding], plan: RunPlan, details: str) -> None:
    """Print the table. If there are details, print the table again after them, so that it stays in view."""
    from resnet50_pipeline.preflight import report

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # terminals without UTF-8 cannot print ✓
    click.echo(f"{report.describe(plan)}\n")
    if details:
        _show_table(findings)
        click.echo(f"\n{details}")
    _show_table(findings)
    click.echo(f"\n{report.summarize(findings)}")


def _show_table(findings: list[Finding]) -> None:
    from resnet50_pipeline.preflight import report

    colors = {"ok": "green", "warning": "yellow", "blocking": "red"}
    for status, line in report.render_table(findings, shutil.get_terminal_size().columns):
        click.echo(line if status is None else click.style(line[0], fg=colors[status], bold=True) + line[1:])


def _describe_start(start: Start | None) -> str:
    from resnet50_pipeline.preflight import report

    if start is None:
        return "The command cannot be shown, because OpenCV cannot be imported.\n"
    return "\n".join("\n".join([title, *lines, ""]) for title, lines in report.render_start(start))


def _start_of(plan: RunPlan) -> Start | None:
    """Return the launch command and YAML of the run, or None if OpenCV, which renders the YAML, cannot be imported."""
    try:
        return plan.start()
    except ImportError:
        return None
