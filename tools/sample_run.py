"""Runs all pipelines on the sample in a terminal, and takes the excerpts that README.md and docs/ show."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "tests"))
from pseudo_terminal import draw, run_in_terminal  # noqa: E402 - the module is in tests/

_COLUMNS = 80
# rich erases the view, line by line, before it prints a message or draws the view again.
_ERASE = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")


def run_sample() -> dict[str, str]:
    """Run the pipelines of the last commit in a temporary clone, and return the excerpts by name."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
        return run_in(clone, {"PYTHONPATH": str(clone / "src")})


def run_in(project: Path, environment: Mapping[str, str], *options: str) -> dict[str, str]:
    """Run all pipelines in a project folder, and return the excerpts by name.

    Raises:
        RuntimeError: if the run fails, with its output.
    """
    kedro = str(Path(sys.executable).with_name("kedro"))
    code, output = run_in_terminal([kedro, "run", *options], cwd=project, environment=environment, columns=_COLUMNS)
    printed = output.decode()
    if code:
        raise RuntimeError("\n".join(draw(printed)))
    log = max((project / "data" / "sample" / "09_logs").glob("*.log"), key=os.path.getmtime)
    excerpts = {
        "terminal": _take_screen(printed),
        "lines": _take_lines(log.read_text(encoding="utf-8").splitlines()),
        "summary": _take_summary(draw(printed)),
    }
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in excerpts.items()}


def _take_screen(printed: str) -> list[str]:
    """Return the results of the first epoch, and the view in the second."""
    erasures = [match.start() for match in _ERASE.finditer(printed)]
    for start, end in itertools.pairwise(erasures):
        view = printed[start:end]
        if "epoch 2/" in view and " left" in view and "last evaluation" in view:
            lines = draw(printed[:end])
            messages = [
                next(line for line in lines if part in line) for part in (" ranks on ", " epoch 1/", " epoch 1: ")
            ]
            last = max(number for number, line in enumerate(lines) if re.match(r"\d\d:\d\d:\d\d ", line))
            return [*messages, *filter(None, lines[last + 1 :])]
    raise ValueError("the terminal did not show the second epoch")


def _take_lines(log: list[str]) -> list[str]:
    """Return the log from the start of training to its first progress line.

    Warnings, the long command of the ranks and the lines of a slow start are left out.
    """
    start = next(number for number, line in enumerate(log) if re.search(r" stage \d/\d training$", line))
    end = next(number for number, line in enumerate(log) if number > start and re.search(" training: .* left$", line))
    return [line for line in log[start : end + 1] if re.search(" INFO (?!.*( starting | has been running for ))", line)]


def _take_summary(lines: list[str]) -> list[str]:
    """Return the lines after the last empty one."""
    text = "\n".join(lines).rstrip()
    return text.rpartition("\n\n")[2].splitlines()
