"""`kedro review` prints the address of the page, and Ctrl-C ends it with the next step."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from review_page import write_findings

from resnet50_pipeline.imagenet.lists.fixes import read_fixes

pytestmark = pytest.mark.slow


def test_the_command_serves_until_ctrl_c(digits: Path, kedro_project: Path):
    """The page at the printed address saves a decision.

    After Ctrl-C, the command prints the file and the next step, which changes the same environment and dataset.
    """
    names = write_findings(kedro_project / "findings.csv", digits)
    options = ["--env", "test", "--params", f"dataset.root={digits}"]
    start = [sys.executable, "-m", "kedro"]
    command = shlex.join([*start, "data-fix", "findings.reviewed.csv", *options])
    process = subprocess.Popen(
        [*start, "review", "findings.csv", "--no-browser", *options],
        cwd=kedro_project,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        request = urllib.request.Request(
            f"{url}decide",
            b'{"index": 1, "action": "drop", "label": null}',
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said.splitlines()) == (
        0,
        [
            "findings.reviewed.csv: 1 of 6 images reviewed",
            f"apply the decisions with: {command}",
        ],
    )
    assert [one.path for one in read_fixes(kedro_project / "findings.reviewed.csv")] == [names[1]]
