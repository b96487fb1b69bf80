"""The project's `kedro run`: Kedro's own, with fast checks, one clear message an error, and honest signals.

Beside it `kedro preflight`, which checks everything and starts nothing, and `kedro unpack`.
"""

from __future__ import annotations

import difflib
import io
import logging
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import rich
import yaml
from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.framework.project import LOGGING, settings
from kedro.utils import find_kedro_project
from kedro.validation.exceptions import ParameterValidationError

from resnet50_pipeline.exceptions import ParameterError, PipelineError
from resnet50_pipeline.hooks.description import SELECTING_OPTIONS
from resnet50_pipeline.hooks.preflight import PLACES, require_agreeing_paths, require_known_groups
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.interruption import received_interruption, signals_interrupt
from resnet50_pipeline.pipeline_registry import STAGES, makes_sample
from resnet50_pipeline.preflight.dataset import require_dataset

if TYPE_CHECKING:
    from resnet50_pipeline.preflight.findings import Finding
    from resnet50_pipeline.preflight.plan import RunPlan

_EXPECTED_ERRORS = (PipelineError, ParameterValidationError, MissingConfigException)
_VERBOSE = click.Option(["--verbose", "-v"], is_flag=True, help="Show the traceback of every error.")


@click.group(name="resnet50-pipeline", context_settings=CONTEXT_SETTINGS)
def cli() -> None:
    """Commands of the project resnet50-pipeline."""


@cli.command("run", params=[*kedro_run.params, _VERBOSE], help=kedro_run.help)
@click.pass_context
def run(context: click.Context, /, *, verbose: bool, **options: Any) -> Any:
    """Run Kedro's own command; end with one message on stderr for an error that the user can do something about."""
    _enter_project()
    _log_plain_lines_unless_in_a_terminal()
    try:
        with signals_interrupt():
            _require_known_pipelines([*options["pipelines"], *filter(None, [options["pipeline"]])])
            _require_dataset_of_the_user(options)
            return kedro_run.callback(**options)  # type: ignore[misc] # a command's callback may be None
    except KeyboardInterrupt:
        context.exit(128 + signal.SIGINT)
    except Exception as error:
        expected = received_interruption() or find_expected_error(error)
        if expected is None:
            raise
        if verbose or logging.getLogger(__package__).isEnabledFor(logging.DEBUG):
            traceback.print_exception(error)
        _end_with_error(context, expected)


_OPTIONS_OF_RUN = {option.name: option for option in kedro_run.params}


@cli.command("preflight", params=[_OPTIONS_OF_RUN[name] for name in ("env", "conf_source", "params")])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def preflight(context: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Check what the whole chain needs, and print what it would start; starts nothing and writes nothing.

    Exit code 0, or 1 where something is found that no run can end well with.
    """
    project_path = _enter_project()
    _log_plain_lines_unless_in_a_terminal()
    try:
        with signals_interrupt():
            plan = _plan_run(options, project_path)
            from resnet50_pipeline.preflight.checks import check_run
            from resnet50_pipeline.preflight.findings import blocking

            findings = check_run(plan)
            _show(findings, plan, as_json=as_json)
    except KeyboardInterrupt:
        context.exit(128 + signal.SIGINT)
    except Exception as error:
        expected = find_expected_error(error)
        if expected is None:
            raise
        _end_with_error(context, expected)
    context.exit(1 if blocking(findings) else 0)


@cli.command("unpack")
@click.option("--train", type=click.Path(path_type=Path), help="ILSVRC2012_img_train.tar, or a folder of class tars.")
@click.option("--val", type=click.Path(path_type=Path), help="ILSVRC2012_img_val.tar.")
@click.option("--root", type=click.Path(path_type=Path), required=True, help="Dataset folder to fill; made if missing.")
@click.pass_context
def unpack(context: click.Context, /, train: Path | None, val: Path | None, root: Path) -> None:
    """Unpack ImageNet's archives to train/<synset>/ and val/; started again, it goes on where it was."""
    from resnet50_pipeline.imagenet.unpack import unpack_archives

    _log_plain_lines_unless_in_a_terminal()
    archives: dict[Split, Path] = {}
    if train is not None:
        archives["train"] = train
    if val is not None:
        archives["val"] = val
    if not archives:
        raise click.UsageError("name at least one of --train and --val")
    try:
        with signals_interrupt():
            done = unpack_archives(root, archives)
    except KeyboardInterrupt:
        context.exit(128 + signal.SIGINT)
    except PipelineError as error:
        _end_with_error(context, error)
    click.echo(
        f"{root}: {done.images} images in {done.folders} folders unpacked, "
        f"{done.folders_before} folders were there already"
    )


def find_expected_error(error: BaseException) -> Exception | None:
    """Return the first error of the `__cause__` chain whose message alone says what to do, or None.

    Kedro wraps what a dataset raises in its own DatasetError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _EXPECTED_ERRORS):
            return cause
        cause = cause.__cause__
    return None


def describe_error(error: Exception) -> str:
    """Return the message of an expected error, without the lines in which pydantic points to its web site."""
    lines = str(error).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("For further information visit"))


def _require_known_pipelines(names: list[str]) -> None:
    folder = Path(__file__).parent / "pipelines"
    for name in names:
        if name != "__default__" and not (folder / name).is_dir():
            nearest = difflib.get_close_matches(name, STAGES, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(STAGES)}"
            raise ParameterError(f"there is no pipeline {name!r}; {hint}")


def _require_dataset_of_the_user(options: dict[str, Any]) -> None:
    """Check the given data set before the stages, and pandas with them, are imported: the hooks' check, but sooner.

    Where options leave nodes out, it is for the hooks to say whether those that run read the data set.
    """
    if makes_sample(_environment(options)) or any(options[name] for name in SELECTING_OPTIONS):
        return
    require_dataset(_load_configuration(options, Path.cwd())["parameters"])


def _plan_run(options: dict[str, Any], project_path: Path) -> RunPlan:
    """Return what `kedro run` with these options is going to do.

    Raises:
        ParameterError: a parameter breaks its rules, or a path is not that of the catalog.
    """
    from resnet50_pipeline.preflight.plan import make_plan

    configuration = _load_configuration(options, project_path)
    parameters, catalog = configuration["parameters"], configuration["catalog"]
    places = {name: project_path / catalog[name]["filepath"] for name in PLACES if name in catalog}
    require_known_groups(parameters)
    require_agreeing_paths(parameters, places)
    return make_plan(parameters, places, project_path, makes_sample=makes_sample(_environment(options)))


def _show(findings: list[Finding], plan: RunPlan, *, as_json: bool) -> None:
    from resnet50_pipeline.preflight import report

    command = plan.command()
    if as_json:
        click.echo(report.as_json(findings, plan, command))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 has no ✓
    width = shutil.get_terminal_size().columns
    click.echo(f"{report.describe(plan)}\n")
    colours = {"ok": "green", "warning": "yellow", "blocking": "red"}
    for status, line in report.render_table(findings, width):
        click.echo(line if status is None else click.style(line[0], fg=colours[status], bold=True) + line[1:])
    click.echo(f"\n{report.summarize(findings)}\n")
    for title, lines in (
        ("Command", report.render_command(command, width)),
        ("Its environment, whole", report.render_environment(command)),
        ("training_config.yaml", [f"  {line}" for line in plan.training_config().to_yaml().splitlines()]),
    ):
        click.secho(title, bold=True)
        click.echo("\n".join(lines) + "\n")


def _enter_project() -> Path:
    """Go to the project's folder and return it, and log as its conf/logging.yml says from wherever it is called.

    Kedro looks for that file in the current folder only, and falls back to its own without a word.
    """
    started = Path.cwd()
    project_path = find_kedro_project(started) or started
    os.chdir(project_path)
    logging_config = project_path / settings.CONF_SOURCE / "logging.yml"
    if project_path != started and "KEDRO_LOGGING_CONFIG" not in os.environ and logging_config.is_file():
        LOGGING.configure(yaml.safe_load(logging_config.read_text(encoding="utf-8")))
    return project_path


def _load_configuration(options: dict[str, Any], project_path: Path) -> AbstractConfigLoader:
    """Return `conf/` as Kedro's session would read it for these options."""
    loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
        options["conf_source"] or str(project_path / settings.CONF_SOURCE),
        env=_environment(options),
        runtime_params=options["params"],
        **settings.CONFIG_LOADER_ARGS,
    )
    return loader


def _environment(options: dict[str, Any]) -> str | None:
    return options["env"] or os.environ.get("KEDRO_ENV")


def _end_with_error(context: click.Context, error: Exception) -> NoReturn:
    click.echo(click.style("error: ", fg="red", bold=True) + describe_error(error), err=True)
    context.exit(getattr(error, "exit_code", 1))


def _log_plain_lines_unless_in_a_terminal() -> None:
    """Where nobody sees colours, log one line a message instead of columns that are broken at 80 characters."""
    if rich.get_console().is_terminal:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.getLogger().handlers = [handler]
    sys.excepthook = sys.__excepthook__  # Kedro's draws frames around tracebacks
