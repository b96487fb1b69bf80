"""The output of real runs of a small project in the terminal, on stderr and in the log file."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from mlflow_stores import client_of, find_runs
from probe_project import ProbeProject
from pseudo_terminal import draw, run_in_terminal

pytestmark = pytest.mark.slow  # processes that import Kedro and MLflow

CANARY = "canary-5f3e"


def log_file(project: ProbeProject) -> Path:
    """Return the project's only log file."""
    (file,) = (project.path / "data" / "sample" / "09_logs").iterdir()
    return file


def test_a_bug_is_logged_as_json_to_stderr_file_and_mlflow(probe_project, monkeypatch):
    """With `logs.format=json`, an unexpected error is also a JSON line. The file has the traceback but no secrets."""
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
    (failure,) = [line for line in kept if "train_network" in line["message"] and "a bug" in line["message"]]
    assert 'raise ZeroDivisionError("a bug")' in failure["traceback"]
    assert CANARY not in file.read_text() + done.stderr
    assert "***" in kept[0]["message"]  # the command line
    client = client_of(probe_project.path)
    (run,) = find_runs(client, CANARY)
    uploaded = client.download_artifacts(run.info.run_id, f"logs/{file.name}")
    assert failure["message"] in Path(uploaded).read_text()


def test_quiet_prints_only_the_error_and_the_path_of_the_log(probe_project):
    """`--quiet` prints a node's error and the path of the log file, which contains all messages."""
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


def test_the_log_of_a_killed_run_ends_with_the_running_node(probe_project):
    """Every line is written immediately, so none is lost on SIGKILL."""
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
    """In a pseudo-terminal, the stages appear above the summary, no line is too wide, and the file has plain lines."""
    exit_code, printed = run_in_terminal(
        probe_project.command("run"),
        cwd=probe_project.path,
        environment={"PYTHONWARNINGS": "ignore"},
        columns=columns,
    )
    assert exit_code == 0
    assert b"checking the machine" in printed
    lines = draw(printed.decode())
    assert max(map(len, lines)) <= columns
    started = next(index for index, line in enumerate(lines) if line.startswith(" ✓ nodes "))
    assert re.fullmatch(r" ✓ nodes +0:0\d", lines[started])
    assert [line.split(maxsplit=1)[0] for line in lines[started + 1 :] if line] == [
        *("result", "training", "report", "MLflow", "log", "index")
    ]
    file = log_file(probe_project)
    assert ["log", f"data/sample/09_logs/{file.name}"] in [line.split() for line in lines]
    assert "\x1b" not in file.read_text()
    assert " INFO    stage 1/1 nodes done in 0:0" in file.read_text()
