"""What real runs of a small project leave in terminal, stream and log file, however they end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from mlflow_stores import client_of, find_runs
from probe_project import ProbeProject

pytestmark = pytest.mark.slow  # processes that import Kedro and MLflow

CANARY = "canary-5f3e"
_TOKEN = re.compile(r"\x1b\[(?P<arguments>[0-9;?]*)(?P<code>[a-zA-Z])|(?P<character>.)", re.DOTALL)


def log_file(project: ProbeProject) -> Path:
    """Return the one log file of the project."""
    (file,) = (project.path / "data" / "sample" / "09_logs").iterdir()
    return file


def draw(printed: str) -> list[str]:
    """Return the lines of a terminal, as high as need be, after what a program has printed.

    It knows what rich writes: colours, and to erase the line and go one up.
    """
    lines, row, column = [""], 0, 0
    for token in _TOKEN.finditer(printed):
        match token["code"], token["character"]:
            case "A", _:
                row -= int(token["arguments"] or 1)
            case "K", _:
                assert token["arguments"] == "2"
                lines[row] = ""
            case None, "\r":
                column = 0
            case None, "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case None, character:
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
    return [line.rstrip() for line in lines]


def test_a_bug_is_in_the_log_file_and_in_mlflow_and_every_line_is_json(probe_project, monkeypatch):
    """With `logs.format=json` the error that ends a run is a JSON line, too; the file has the traceback, no secret."""
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    probe_project.behave("bug")
    done = probe_project.run("run", "--params", f"logs.format=json,tracking.experiment={CANARY}")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"time", "level", "logger", "message", "session", "stage", "node"} <= set.intersection(*map(set, lines))
    assert (lines[-1]["level"], lines[-1]["message"]) == ("ERROR", "ZeroDivisionError: a bug")
    (session,) = {line["session"] for line in lines}
    file = log_file(probe_project)
    assert file.name == f"{session}.log"
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    (ends,) = [line for line in kept if line["message"] == "the run ends in train_network: a bug"]
    assert 'raise ZeroDivisionError("a bug")' in ends["traceback"]
    assert CANARY not in file.read_text() + done.stderr
    assert "***" in kept[0]["message"]  # the command line
    client = client_of(probe_project.path)
    (run,) = find_runs(client, CANARY)
    uploaded = client.download_artifacts(run.info.run_id, f"logs/{file.name}")
    assert "the run ends in train_network" in Path(uploaded).read_text()


def test_an_error_of_a_node_says_where_the_log_is_and_quiet_says_nothing_else(probe_project):
    """`--quiet` prints the error and where the log is, which has what was not printed; the exit code stays."""
    probe_project.behave("fail")
    done = probe_project.run("run", "--quiet")
    file = log_file(probe_project)
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line and not line.startswith("  ")]
    assert lines == [
        f"log: data/sample/09_logs/{file.name}",
        "error: rank 1 was killed by SIGKILL; see log/workerlog.1",
    ]
    logged = file.read_text()
    assert "INFO    2/3 train_network" in logged
    assert "RankFailedError: rank 1 was killed by SIGKILL" in logged
    probe_project.behave("finish")
    done = probe_project.run("run", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_killed_run_leaves_a_log_that_says_how_far_it_came(probe_project):
    """Every line is in the file when it is logged, so SIGKILL takes none away."""
    probe_project.behave("wait")
    process = probe_project.start("run")
    deadline = time.monotonic() + 60
    while not (probe_project.path / "waiting").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert log_file(probe_project).read_text().splitlines()[-1].endswith("2/3 train_network")


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_one_view_and_the_summary(probe_project, columns):
    """In a real pseudo-terminal the stages stand above the summary, no line is wider, and the file has plain lines."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        probe_project.command("run"),
        cwd=probe_project.path,
        env={**environment, "TERM": "xterm-256color", "PYTHONWARNINGS": "ignore"},
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    printed = b""
    while True:
        try:
            printed += os.read(main, 65536)
        except OSError:  # the other side is closed
            break
    os.close(main)
    assert process.wait(timeout=60) == 0
    lines = draw(printed.decode())
    assert max(map(len, lines)) <= columns
    started = next(index for index, line in enumerate(lines) if line.startswith(" ✓ nodes "))
    assert re.fullmatch(r" ✓ nodes +0:0\d", lines[started])
    assert [line.split(maxsplit=1)[0] for line in lines[started + 1 :] if line] == [
        *("result", "training", "report", "MLflow", "log")
    ]
    file = log_file(probe_project)
    assert f"  log       data/sample/09_logs/{file.name}" in lines
    assert "\x1b" not in file.read_text()
    assert " INFO    stage 1/1 nodes done in 0:0" in file.read_text()
