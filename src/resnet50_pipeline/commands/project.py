"""Prepares a command: changes to the project folder, sets up logging and loads the configuration."""

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

from resnet50_pipeline.commands.config_option import ConfigOption
from resnet50_pipeline.commands.params_option import ParamsOption
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs import set_up
from resnet50_pipeline.logs.set_up import RunLog, is_in_terminal, logging_run
from resnet50_pipeline.parameters import LogParameters

_LOGGING_VARIABLE = "KEDRO_LOGGING_CONFIG"

# Options of `kedro run`, with replacements for two of Kedro's own options, and the subset that determines the
# configuration. Other commands accept this subset.
_REPLACED = {"params": ParamsOption, "config": ConfigOption}
RUN_OPTIONS = [_REPLACED[option.name]() if option.name in _REPLACED else option for option in kedro_run.params]
CONFIGURATION_OPTIONS = [option for option in RUN_OPTIONS if option.name in ("env", "conf_source", "params")]


def enter_project() -> Path:
    """Change to the project folder, set up the log, and return the folder.

    The log levels come from `conf/logging.yml`, which Kedro looks for only in the current folder. If this
    function did not change the folder, a command started in a subfolder would silently use Kedro's own levels.
    """
    started = Path.cwd()
    project_path = find_kedro_project(started) or started
    os.chdir(project_path)
    logging_config = project_path / settings.CONF_SOURCE / "logging.yml"
    if project_path != started and _LOGGING_VARIABLE not in os.environ and logging_config.is_file():
        LOGGING.configure(yaml.safe_load(logging_config.read_text(encoding="utf-8")))
    log_to_stderr()
    return project_path


def enter_configured_project(options: dict[str, Any]) -> Path:
    """Enter the project for a command that accepts CONFIGURATION_OPTIONS.

    If --conf-source is given, the log levels are read from it. Installed packages have no project folder and use
    the current folder.

    Raises:
        ParameterError: if there is no configuration, or if the --conf-source archive cannot be read.
    """
    project_path = enter_project()
    source = options["conf_source"]
    if source is not None:
        base = settings.CONFIG_LOADER_ARGS["base_env"]
        logging_config = settings.CONFIG_LOADER_CLASS(source, env=base, **settings.CONFIG_LOADER_ARGS).read_logging()
        if logging_config is not None and _LOGGING_VARIABLE not in os.environ:
            LOGGING.configure(logging_config)
            log_to_stderr()  # called again because `configure` replaces the handlers
    elif not (project_path / settings.CONF_SOURCE).is_dir():
        raise ParameterError(
            f"{project_path} has no {settings.CONF_SOURCE} folder → change to the project folder, or pass the archive "
            "written by `kedro package`: --conf-source conf-resnet50_pipeline.tar.gz"
        )
    return project_path


def load_configuration(options: dict[str, Any], project_path: Path) -> AbstractConfigLoader:
    """Return the configuration that a Kedro session would load for these options."""
    loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
        options["conf_source"] or str(project_path / settings.CONF_SOURCE),
        env=environment_of(options),
        runtime_params=options["params"],
        **settings.CONFIG_LOADER_ARGS,
    )
    return loader


def find_dataset_root(configuration: AbstractConfigLoader, project_path: Path) -> Path:
    """Return the dataset folder set in a configuration. A relative path is resolved against the project folder."""
    return project_path / str(configuration["catalog"]["dataset_root"]["filepath"])


def environment_of(options: dict[str, Any]) -> str | None:
    """Return the Kedro environment set by the options or KEDRO_ENV, or None for the default environment."""
    return options["env"] or os.environ.get("KEDRO_ENV")


def log_to_stderr() -> None:
    """Log to stderr: plain lines, or colored lines and progress bars in a terminal."""
    set_up.log_to_stderr()
    _use_plain_tracebacks()


@contextlib.contextmanager
def logging_to_file(parameters: LogParameters, *, is_quiet: bool) -> Iterator[RunLog]:
    """Log to stderr in the configured format, and to the run's log file.

    Raises:
        ParameterError: if the log file cannot be created.
    """
    with logging_run(parameters, is_quiet=is_quiet) as log:
        _use_plain_tracebacks()
        yield log


def _use_plain_tracebacks() -> None:
    if not is_in_terminal():
        sys.excepthook = sys.__excepthook__  # replaces Kedro's hook, which draws frames around tracebacks
