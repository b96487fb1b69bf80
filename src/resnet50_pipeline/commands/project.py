"""Where a command runs: the project's folder, its configuration, its log."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kedro.config import AbstractConfigLoader
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import LOGGING, settings
from kedro.utils import find_kedro_project

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs.set_up import RunLog, is_in_terminal, log_to_terminal_or_lines, logging_run
from resnet50_pipeline.parameters import LogParameters, as_group

_LOGGING_VARIABLE = "KEDRO_LOGGING_CONFIG"

# `kedro run`'s own, for commands that read the configuration as it does.
CONFIGURATION_OPTIONS = [option for option in kedro_run.params if option.name in ("env", "conf_source", "params")]


def enter_project() -> Path:
    """Go to the project's folder and return it, and log as its conf/logging.yml says from wherever it is called.

    Kedro looks for that file in the current folder only, and falls back to its own without a word.
    """
    started = Path.cwd()
    project_path = find_kedro_project(started) or started
    os.chdir(project_path)
    logging_config = project_path / settings.CONF_SOURCE / "logging.yml"
    if project_path != started and _LOGGING_VARIABLE not in os.environ and logging_config.is_file():
        LOGGING.configure(yaml.safe_load(logging_config.read_text(encoding="utf-8")))
    return project_path


def enter_configured_project(options: dict[str, Any]) -> Path:
    """`enter_project`, for a command that takes CONFIGURATION_OPTIONS: with --conf-source, log as that says.

    An installed package has no project's folder; then it is the current one.

    Raises:
        ParameterError: there is no configuration, or --conf-source names an archive that cannot be read.
    """
    project_path = enter_project()
    source = options["conf_source"]
    if source is not None:
        base = settings.CONFIG_LOADER_ARGS["base_env"]
        logging_config = settings.CONFIG_LOADER_CLASS(source, env=base, **settings.CONFIG_LOADER_ARGS).read_logging()
        if logging_config is not None and _LOGGING_VARIABLE not in os.environ:
            LOGGING.configure(logging_config)
    elif not (project_path / settings.CONF_SOURCE).is_dir():
        raise ParameterError(
            f"{project_path} has no folder {settings.CONF_SOURCE}; go to the project's folder, or name its "
            "configuration: --conf-source conf-resnet50_pipeline.tar.gz, which `kedro package` writes beside the wheel"
        )
    return project_path


def load_configuration(options: dict[str, Any], project_path: Path) -> AbstractConfigLoader:
    """Return `conf/` as Kedro's session would read it for these options."""
    loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
        options["conf_source"] or str(project_path / settings.CONF_SOURCE),
        env=environment_of(options),
        runtime_params=options["params"],
        **settings.CONFIG_LOADER_ARGS,
    )
    return loader


def environment_of(options: dict[str, Any]) -> str | None:
    """Return the Kedro environment that the options, or KEDRO_ENV, name; None for the default."""
    return options["env"] or os.environ.get("KEDRO_ENV")


def log_plain_lines_unless_in_a_terminal() -> None:
    """Log one line a message; in a terminal with colours, and with bars for long work."""
    log_to_terminal_or_lines()
    _let_tracebacks_be_plain()


def read_log_parameters(options: dict[str, Any], project_path: Path) -> LogParameters:
    """Return how the run of these options is to log.

    Raises:
        ParameterError: the group `logs` breaks its rules.
    """
    return as_group(load_configuration(options, project_path)["parameters"].get("logs", {}), "logs", LogParameters)


@contextlib.contextmanager
def logging_to_file(parameters: LogParameters, *, is_quiet: bool) -> Iterator[RunLog]:
    """Log as `log_plain_lines_unless_in_a_terminal`, or as the parameters say, and to a file."""
    with logging_run(parameters, is_quiet=is_quiet) as log:
        _let_tracebacks_be_plain()
        yield log


def _let_tracebacks_be_plain() -> None:
    if not is_in_terminal():
        sys.excepthook = sys.__excepthook__  # Kedro's draws frames around tracebacks
