"""`kedro run`: Kedro's own, with fast checks, one clear message an error, and honest signals."""

from __future__ import annotations

import contextlib
import difflib
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import (
    enter_configured_project,
    environment_of,
    load_configuration,
    log_plain_lines_unless_in_a_terminal,
    logging_to_file,
    read_log_parameters,
)
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.hooks.description import SELECTING_OPTIONS
from resnet50_pipeline.logs.formats import SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import FILE_ONLY
from resnet50_pipeline.pipeline_registry import STAGES, makes_sample
from resnet50_pipeline.preflight.dataset import require_dataset

logger = logging.getLogger(__name__)

_VERBOSE = click.Option(["--verbose", "-v"], is_flag=True, help="Show the traceback of every error.")
_QUIET = click.Option(
    ["--quiet", "-q"],
    is_flag=True,
    help="Print nothing but warnings and errors: no progress, no summary. The log file has everything.",
)


@click.command("run", params=[*kedro_run.params, _VERBOSE, _QUIET], help=kedro_run.help)
@click.pass_context
def run(context: click.Context, /, *, verbose: bool, quiet: bool, **options: Any) -> Any:
    """Run Kedro's own command; end with one message on stderr for an error that the user can do something about."""
    with contextlib.ExitStack() as log, ending_clearly(context, verbose=verbose):
        project_path = enter_configured_project(options)
        log_plain_lines_unless_in_a_terminal()
        # The outer of the two: the error that ends the run is in its log file, too.
        log.enter_context(logging_to_file(read_log_parameters(options, project_path), is_quiet=quiet))
        logger.info("%s", shlex.join(sys.argv), extra={SHOWN_ELSEWHERE: FILE_ONLY})
        _require_known_pipelines([*options["pipelines"], *filter(None, [options["pipeline"]])])
        _require_dataset_of_the_user(options)
        return kedro_run.callback(**options)  # type: ignore[misc] # a command's callback may be None


def _require_known_pipelines(names: list[str]) -> None:
    folder = Path(__file__).parents[1] / "pipelines"
    for name in names:
        if name != "__default__" and not (folder / name).is_dir():
            nearest = difflib.get_close_matches(name, STAGES, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(STAGES)}"
            raise ParameterError(f"there is no pipeline {name!r}; {hint}")


def _require_dataset_of_the_user(options: dict[str, Any]) -> None:
    """Check the given data set before the stages, and pandas with them, are imported: the hooks' check, but sooner.

    Where options leave nodes out, it is for the hooks to say whether those that run read the data set.
    """
    if makes_sample(environment_of(options)) or any(options[name] for name in SELECTING_OPTIONS):
        return
    require_dataset(load_configuration(options, Path.cwd())["parameters"])
