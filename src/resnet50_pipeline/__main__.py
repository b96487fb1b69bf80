"""`python -m resnet50_pipeline` and the program `resnet50-pipeline`: the commands, of an installed package too.

    python -m resnet50_pipeline --conf-source conf-resnet50_pipeline.tar.gz --env imagenet
    python -m resnet50_pipeline preflight --conf-source conf-resnet50_pipeline.tar.gz --env imagenet

Without a command it is `run`, as of every packaged Kedro project. What runs write lies below the current folder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

_HELP = ("-h", "--help")


def main(args: Sequence[str] | None = None, **kwargs: Any) -> Any:
    """Run a command of the project with the command line's, or the given, arguments."""
    # On import Kedro says that it found no conf/logging.yml here; that of --conf-source is read later.
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
