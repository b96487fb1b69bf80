"""Opens a page of an environment's last run in the browser and prints its path: `python tools/open_page.py NAME`."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.recipes import RecipeConfigLoader
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

PAGES = {"index": "08_reporting/index.html", "data-docs": "08_reporting/data_docs/index.html"}
"""Path of each page in the workspace."""


def main(arguments: Sequence[str]) -> int:
    """Open the page and return the exit code, which is 1 if the page or the environment does not exist."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PAGES)
    parser.add_argument("--env", "-e", default=os.environ.get("KEDRO_ENV"), help="Kedro environment")
    parser.add_argument("--file", type=Path, help="page to open instead")
    options = parser.parse_args(arguments)
    try:
        page = options.file or find_page(options.name, options.env)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    if not page.is_file():
        print(f"{page} does not exist; it is written by: {_run_command(options.env)}", file=sys.stderr)
        return 1
    print(page)
    # Without a display, webbrowser would start a text browser in the terminal.
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.absolute().as_uri())
    return 0


def find_page(name: str, environment: str | None) -> Path:
    """Return the path of a page in the environment's workspace.

    Raises:
        ParameterError: if the environment does not exist.
    """
    configuration = RecipeConfigLoader("conf", env=environment, **CONFIG_LOADER_ARGS)
    return Path(configuration["globals"]["workspace"], PAGES[name])


def _run_command(environment: str | None) -> str:
    return "make run" if environment is None else f'make run ARGS="--env {environment}"'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
