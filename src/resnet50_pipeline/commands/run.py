"""Implements `kedro run`: Kedro's command with early checks, short error messages and a clean shutdown."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.params_option import add_params_of_file
from resnet50_pipeline.commands.project import (
    RUN_OPTIONS,
    enter_configured_project,
    environment_of,
    load_configuration,
    logging_to_file,
)
from resnet50_pipeline.commands.selection import require_known_runner, require_known_selection
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs.formats import SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import FILE_ONLY
from resnet50_pipeline.parameters import DatasetParameters, LogParameters, read_group
from resnet50_pipeline.pipeline_registry import SELECTING_OPTIONS, STAGES, makes_sample
from resnet50_pipeline.preflight.dataset import require_dataset
from resnet50_pipeline.text import suggest_name

logger = logging.getLogger(__name__)

_VERBOSE = click.Option(["--verbose", "-v"], is_flag=True, help="Show the traceback of every error.")
_QUIET = click.Option(
    ["--quiet", "-q"],
    is_flag=True,
    help="Print only warnings and errors, without progress or a summary. The log file still contains everything.",
)


@click.command("run", params=[*RUN_OPTIONS, _VERBOSE, _QUIET], help=kedro_run.help)
@click.pass_context
def run(context: click.Context, /, *, verbose: bool, quiet: bool, **options: Any) -> Any:
    """Run Kedro's command, and report errors that the user can fix as a single message on stderr."""
    with contextlib.ExitStack() as log, reporting_errors(context, verbose=verbose):
        options["params"] = add_params_of_file(context, options["params"])
        configuration = load_configuration(options, enter_configured_project(options))
        parameters = configuration["parameters"]  # reading the YAML files takes a tenth of a second
        # The log file must stay open until `reporting_errors` has logged the run's error.
        log.enter_context(logging_to_file(read_group(parameters, "logs", LogParameters), is_quiet=quiet))
        logger.info("%s", shlex.join(sys.argv), extra={SHOWN_ELSEWHERE: FILE_ONLY})
        _require_known_pipelines([*options["pipelines"], *filter(None, [options["pipeline"]])])
        require_known_runner(options["runner"])
        require_known_selection(options, environment_of(options))
        if options["load_versions"]:
            _require_versioned_datasets(options["load_versions"], configuration["catalog"])
        if not (makes_sample(environment_of(options)) or any(options[name] for name in SELECTING_OPTIONS)):
            # Check the dataset before importing the stages and pandas. If only some nodes are selected, the hooks check
            # it instead, because they know whether these nodes read the dataset.
            root = Path(configuration["catalog"]["dataset_root"]["filepath"])
            require_dataset(root, read_group(parameters, "dataset", DatasetParameters))
        return kedro_run.callback(**options)  # type: ignore[misc] # a command's callback may be None


def _require_known_pipelines(names: list[str]) -> None:
    folder = Path(__file__).parents[1] / "pipelines"
    for name in names:
        if name != "__default__" and not (folder / name).is_dir():
            hint = suggest_name(name, STAGES) or f"known: {', '.join(STAGES)}"
            raise ParameterError(f"there is no pipeline {name!r} → check the name; {hint}")


def _require_versioned_datasets(names: Iterable[str], catalog: Mapping[str, Any]) -> None:
    """Check that the datasets in --load-versions are versioned. Kedro ignores the option for other datasets."""
    for name in names:
        if name not in catalog:
            raise ParameterError(
                f"--load-versions: there is no dataset {name!r} in the catalog; {suggest_name(name, catalog)}".rstrip(
                    "; "
                )
            )
        if not catalog[name].get("versioned"):
            raise ParameterError(
                f"--load-versions: Kedro does not version {name}, but DVC does → restore an earlier version with `git "
                "checkout COMMIT` and `dvc checkout`"
            )
