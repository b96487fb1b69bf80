"""Runs the commands whose output is shown in README.md and docs/, and writes their current output to the pages.

    python tools/docs_outputs.py

A block is updated if it follows one of these comments:

    <!-- output -->                 its first line is the command, after `$ `; the command must not need results of a
                                    run, and may fail
    <!-- output of a run: NAME -->  an excerpt of the output of `kedro run` on the sample; sample_run.py has the names
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sample_run import run_sample

PROJECT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(?P<head><!-- output -->\n```text\n\$ (?P<command>[^\n]+)\n)(?P<output>.*?)(?P<end>```\n)", re.S)
_EXCERPT = re.compile(
    r"(?P<head><!-- output of a run: (?P<name>[a-z]+) -->\n```text\n)(?P<output>.*?)(?P<end>```\n)", re.S
)
_COLUMNS, _MAX_LENGTH = 80, 120


def find_pages() -> list[Path]:
    """Return the pages that contain outputs."""
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    return [page for page in pages if "<!-- output" in page.read_text(encoding="utf-8")]


def find_outputs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command in a page and the output that the page shows."""
    for block in _BLOCK.finditer(text):
        yield block["command"], block["output"]


def find_excerpts(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each excerpt of a run in a page, and the excerpt that the page shows."""
    for block in _EXCERPT.finditer(text):
        yield block["name"], block["output"]


def update(text: str, excerpts: Mapping[str, str]) -> str:
    """Return the text of a page with the current outputs of commands, and with these excerpts of a run."""
    text = _EXCERPT.sub(lambda block: block["head"] + excerpts[block["name"]] + block["end"], text)
    return _BLOCK.sub(lambda block: block["head"] + run(block["command"]) + block["end"], text)


def run(command: str) -> str:
    """Return the output of a command in a terminal with 80 columns. Long lines are cut."""
    environment = {
        **os.environ,
        "COLUMNS": str(_COLUMNS),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT / "src"),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        shlex.split(command), cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    lines = [_cut(line.rstrip()) for line in _hide_folder(done.stdout).splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def _hide_folder(text: str) -> str:
    return text.replace(f"{PROJECT}/", "").replace(str(PROJECT), "/home/me/project")


def _cut(line: str) -> str:
    """Cut a long line after an item of a list."""
    if len(line) <= _MAX_LENGTH:
        return line
    return line[: _MAX_LENGTH - 1].rpartition(", ")[0] + ", …"


if __name__ == "__main__":
    of_run = run_sample()
    for page in find_pages():
        page.write_text(update(page.read_text(encoding="utf-8"), of_run), encoding="utf-8")
        print(page.relative_to(PROJECT))
