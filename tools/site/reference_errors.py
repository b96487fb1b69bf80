"""The page of exit codes and errors, from `exceptions.py`."""

from __future__ import annotations

from resnet50_pipeline import exceptions

HEAD = """\
# Exit codes and errors

| exit code | of every command |
|---|---|
| 0 | done; of `kedro preflight`: no run fails for what was found; of `kedro sync-runs`: nothing waits any more |
| 1 | an error that the last lines on stderr name: the thing, the rule, the value found, the next step |
| 2 | a command line that the command does not take |
| 130 | Ctrl-C (SIGINT): the ranks have finished their step and saved |
| 143 | SIGTERM: the same |

An error that a user can do something about is one message, without a traceback (`kedro run --verbose` shows it). Checks
collect every finding, print ten, and write all of them to a file that the message names. Anything else that goes wrong
is a bug here and ends with a traceback.

## What is raised on purpose

The classes of `resnet50_pipeline.exceptions`:

"""


def render_errors() -> str:
    """Return the page's Markdown."""
    tree = (exceptions.__doc__ or "").partition("\n\n")[2].strip()
    return f"{HEAD}```text\n{tree}\n```\n"
