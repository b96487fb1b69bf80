"""The `resnet50-pipeline` program, also available as `python -m resnet50_pipeline`. No project folder is needed.

    python -m resnet50_pipeline --conf-source conf-resnet50_pipeline.tar.gz --env imagenet
    python -m resnet50_pipeline preflight --conf-source conf-resnet50_pipeline.tar.gz --env imagenet

The default command is `run`, as in every packaged Kedro project. All results are written under the current folder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from resnet50_pipeline.python_warnings import show_warnings_of_libraries

_HELP = ("-h", "--help")


def main(args: Sequence[str] | None = None, **kwargs: Any) -> Any:
    """Run one of the project's commands. If `args` is None, use the command-line arguments."""
    show_warnings_of_libraries()
    # On import, Kedro logs that conf/logging.yml is missing. The file in --conf-source is read later.
    logging.disable(logging.INFO)
    from kedro.framework.project import configure_project

    logging.disable(logging.NOTSET)
    configure_project("resnet50_pipeline")
    from resnet50_pipeline.cli import cli

    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _HELP):
        arguments.insert(0, "run")
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # an interactive session must not exit
    return cli.main(arguments, **kwargs)


if __name__ == "__main__":
    main()
