"""`python -m resnet50_pipeline` and the program `resnet50-pipeline`: `kedro run` of the installed project."""

import sys
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Run the project's `run` command with the command line's, or the given, arguments."""
    package_name = "resnet50_pipeline"
    configure_project(package_name)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # an interactive session must not exit
    return find_run_command(package_name)(*args, **kwargs)


if __name__ == "__main__":
    main()
