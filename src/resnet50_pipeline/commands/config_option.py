"""Implements the `--config` option of `kedro run`: a YAML file with options in a `run` group."""

from __future__ import annotations

from pathlib import Path

import click
import yaml
from kedro.framework.cli.project import CONFIG_FILE_HELP
from kedro.framework.cli.utils import _config_file_callback


class ConfigOption(click.Option):
    """Kedro's `--config` option, with an error message instead of Kedro's traceback if the file has no `run` group."""

    def __init__(self) -> None:
        super().__init__(
            ["--config", "-c"],
            type=click.Path(exists=True, dir_okay=False, resolve_path=True),
            help=CONFIG_FILE_HELP,
            callback=_read_config,
        )


def _read_config(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Use the values in the file as the defaults of the other options.

    Raises:
        click.BadParameter: if the file is not YAML or has no `run` group.
    """
    if value:
        try:
            content = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise click.BadParameter(f"{value} cannot be read as YAML: {' '.join(str(error).split())}") from error
        group = content.get(context.info_name) if isinstance(content, dict) else None
        if not isinstance(group, dict):
            raise click.BadParameter(
                f"{value} has no `{context.info_name}` group → add the group and its options for `kedro run`, for "
                "example `run: {env: imagenet}`"
            )
    path: str | None = _config_file_callback(context, option, value)
    return path
