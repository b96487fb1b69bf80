"""Generates the page that lists exit codes and errors, from `exceptions.py`."""

from __future__ import annotations

from resnet50_pipeline import exceptions

HEAD = """\
# Exit codes and errors

| exit code | meaning for every command |
|---|---|
| 0 | success; for `kedro preflight`, there are no blocking findings; for `kedro sync-runs`, no data is waiting |
| 1 | an error; the last lines on stderr state the subject, the rule, the value found and the next step |
| 2 | an invalid command line |
| 130 | Ctrl-C (SIGINT): the ranks have finished their step and saved |
| 143 | SIGTERM: the same |

If you can fix an error, it is printed as one message without a traceback (`kedro run --verbose` adds the traceback).
Checks collect all findings, print ten of them and write all of them to a file, whose path is in the message. Any other
error is a bug in this project and ends with a traceback.

## Error classes

The classes in `resnet50_pipeline.exceptions`:

"""


def render_errors() -> str:
    """Return the page's Markdown."""
    tree = (exceptions.__doc__ or "").partition("\n\n")[2].strip()
    return f"{HEAD}```text\n{tree}\n```\n"
