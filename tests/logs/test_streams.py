"""A closed terminal or a pipe without a reader does not change how a program ends."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pseudo_terminal import run_in_terminal

# Waits until the test has closed the other side, prints more than a buffer holds, and exits with code 7.
PROGRAM = """
import logging, sys
from pathlib import Path
import click
from resnet50_pipeline.logs.streams import survive_closed_terminal
survive_closed_terminal(result_in_stdout=sys.argv[2] == "result")
logging.basicConfig(stream=sys.stderr)
print("first", flush=True)
sys.stdin.readline()
for number in range(3000):
    print("line", number)
    click.echo("echo", err=True)
    sys.stderr.write("written")
logging.error("logged")
Path(sys.argv[1]).touch()
sys.exit(7)
"""


# Reports progress as a command without a log file does.
PROGRESS_PROGRAM = """
import time
from resnet50_pipeline.logs.set_up import log_to_stderr
from resnet50_pipeline.progress import show_progress
log_to_stderr()
with show_progress(total=4, what="packing images") as advance:
    advance(3)
    time.sleep(1)
"""


def start(path: Path, output: int, what: str = "log") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), what], stdin=subprocess.PIPE, stdout=output, stderr=output
    )


def test_a_closed_terminal_changes_nothing(tmp_path: Path):
    """All ways of printing keep working without an error, and the exit code does not change."""
    main, side = pty.openpty()
    process = start(tmp_path / "end", side)
    os.close(side)
    assert os.read(main, 5) == b"first"
    os.close(main)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 7
    assert (tmp_path / "end").exists()


@pytest.mark.parametrize("what", ["log", "result"])
def test_a_pipe_without_a_reader_ends_only_commands_that_print_a_result(tmp_path: Path, what: str):
    """`kedro run | tee` continues without tee, and `kedro predict | head` ends."""
    reader, writer = os.pipe()
    process = start(tmp_path / "end", writer, what)
    os.close(writer)
    assert os.read(reader, 5) == b"first"
    os.close(reader)
    process.communicate(b"\n", timeout=60)
    assert (process.returncode == 7) == (what == "log")
    assert process.returncode != 0
    assert (tmp_path / "end").exists() == (what == "log")


def test_a_reader_gets_all_output(tmp_path: Path):
    """No output is dropped while the stream has a reader."""
    process = start(tmp_path / "end", subprocess.PIPE)
    output, errors = process.communicate(b"\n", timeout=60)
    assert output.splitlines()[-1] == b"line 2999"
    assert errors.count(b"written") == 3000
    assert process.returncode == 7


def test_a_command_without_a_log_file_draws_its_progress(tmp_path: Path):
    """A terminal shows a progress bar with a percentage until the work is done."""
    exit_code, printed = run_in_terminal([sys.executable, "-c", PROGRESS_PROGRAM])
    assert exit_code == 0
    assert b"75%" in printed
    assert b"3 of 4 images" in printed
