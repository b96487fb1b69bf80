"""The project's `kedro run`: Kedro's own, with fast checks, one clear message an error, and honest signals."""

from __future__ import annotations

import difflib
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click
import rich
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.framework.project import settings
from kedro.utils import find_kedro_project
from kedro.validation.exceptions import ParameterValidationError

from resnet50_pipeline.exceptions import ParameterError, PipelineError
from resnet50_pipeline.hooks.description import SELECTING_OPTIONS
from resnet50_pipeline.hooks.preflight import require_dataset
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.interruption import received_interruption, signals_interrupt
from resnet50_pipeline.pipeline_registry import STAGES, makes_sample

_EXPECTED_ERRORS = (PipelineError, ParameterValidationError, MissingConfigException)
_VERBOSE = click.Option(["--verbose", "-v"], is_flag=True, help="Show the traceback of every error.")


@click.group(name="resnet50-pipeline", context_settings=CONTEXT_SETTINGS)
def cli() -> None:
    """Commands of the project resnet50-pipeline."""


@cli.command("run", params=[*kedro_run.params, _VERBOSE], help=kedro_run.help)
@click.pass_context
def run(context: click.Context, /, *, verbose: bool, **options: Any) -> Any:
    """Run Kedro's own command; end with one message on stderr for an error that the user can do something about."""
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
        click.echo(click.style("error: ", fg="red", bold=True) + describe_error(expected), err=True)
        context.exit(getattr(expected, "exit_code", 1))


@cli.command("unpack")
@click.option("--train", type=click.Path(path_type=Path), help="ILSVRC2012_img_train.tar, or a folder of class tars.")
@click.option("--val", type=click.Path(path_type=Path), help="ILSVRC2012_img_val.tar.")
@click.option("--root", type=click.Path(path_type=Path), required=True, help="Dataset folder to fill; made if missing.")
@click.option("--verify", is_flag=True, help="First hold the archives against the MD5 that image-net.org gives.")
@click.pass_context
def unpack(context: click.Context, /, train: Path | None, val: Path | None, root: Path, *, verify: bool) -> None:
    """Unpack ImageNet's archives to train/<synset>/ and val/; started again, it goes on where it was."""
    from resnet50_pipeline.imagenet.published_archives import require_published
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
            if verify:
                require_published(archives)
            done = unpack_archives(root, archives)
    except KeyboardInterrupt:
        context.exit(128 + signal.SIGINT)
    except PipelineError as error:
        click.echo(click.style("error: ", fg="red", bold=True) + describe_error(error), err=True)
        context.exit(error.exit_code)
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
    environment = options["env"] or os.environ.get("KEDRO_ENV")
    if makes_sample(environment) or any(options[name] for name in SELECTING_OPTIONS):
        return
    project_path = find_kedro_project(Path.cwd()) or Path.cwd()
    os.chdir(project_path)
    loader = settings.CONFIG_LOADER_CLASS(
        options["conf_source"] or str(project_path / settings.CONF_SOURCE),
        env=environment,
        runtime_params=options["params"],
        **settings.CONFIG_LOADER_ARGS,
    )
    require_dataset(loader["parameters"])


def _log_plain_lines_unless_in_a_terminal() -> None:
    """Where nobody sees colours, log one line a message instead of columns that are broken at 80 characters."""
    if rich.get_console().is_terminal:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.getLogger().handlers = [handler]
    sys.excepthook = sys.__excepthook__  # Kedro's draws frames around tracebacks
