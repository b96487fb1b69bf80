"""Generates the page that lists exit codes and errors, from `exceptions.py`."""

from __future__ import annotations

from resnet50_pipeline import exceptions

HEAD = """\
# Exit codes and errors

| exit code | meaning for every command | repeat the run? |
|---|---|---|
| 0 | success; for `kedro preflight`, no blocking findings; for `kedro sync-runs`, nothing left to upload | |
| 1 | an error; the last lines on stderr state the subject, the rule, the value found and the next step | no |
| 2 | an invalid command line; for `make`, any error of its command, whose exit code it prints (`Error 4`) | no |
| 3 | the training loss became NaN or infinite | no |
| 4 | `kedro preflight` has blocking findings | no |
| 5 | the weights of the ranks are not identical: a device has made an error | on other machines |
| 75 | a rank or a DataLoader worker was killed, crashed or hung, or a required server is unreachable | yes |
| 129, 143 | SIGHUP, SIGTERM: the ranks have finished their step and saved | yes |
| 130 | Ctrl-C (SIGINT): the same | no |
| 137 | SIGKILL of the command itself, for example because memory ran out | yes |

A scheduler can repeat a run without you if the exit code says that this may help
([examples](../deployment.md#which-failures-to-repeat)). 75 is `EX_TEMPFAIL` in `sysexits.h`.

Errors that you can fix are printed as one message without a traceback (`kedro run --verbose` adds it). Checks collect
all findings, print the first ten, and write them all to a file whose path is in the message. Any other error is a bug
in this project and ends with a traceback.

## Error classes

The classes in `resnet50_pipeline.exceptions`:

"""


def render_errors() -> str:
    """Return the page's Markdown."""
    tree = (exceptions.__doc__ or "").partition("\n\n")[2].strip()
    return f"{HEAD}```text\n{tree}\n```\n"
