"""The batch script runs, stops and requeues the job. The tests replace SLURM's programs with stand-ins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import RETRY_EXIT_CODE
from resnet50_pipeline.parameters import LaunchParameters

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "train.sbatch"
STEP = {
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_GPUS_ON_NODE": "4",
}
PROGRAMS = {
    "scontrol": 'echo "scontrol $*" >>calls; if [ "$1" = show ]; then echo node-a; sleep 0.1; echo node-b; fi',
    "scancel": 'echo "scancel $*" >>calls; touch stopped',
    # Like srun, runs the command for all nodes at the same time and passes each node its number.
    "srun": 'while case "$1" in --*) true;; *) false;; esac; do shift; done\n'
    'for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@" & eval "p$SLURM_PROCID=$!"; done; wait $p0 && wait $p1',
    "resnet50-pipeline": 'echo "$1 $*" >>"$SLURM_PROCID"\n'
    'case "$1" in preflight) exit "${PREFLIGHT:-0}";; run) while [ -n "${LONG:-}" ] && [ ! -e stopped ]; do sleep 0.1;'
    "done; [ ! -e stopped ] || exit 143; exit ${CODE:-0};; esac",
}


@pytest.fixture
def job(tmp_path: Path):
    """A function that starts the script as job 31 on two nodes, with stand-ins for SLURM's programs."""
    for name, text in PROGRAMS.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def start(**variables: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "31",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_NNODES": "2",
            "RESNET50_PROGRAM": str(tmp_path / "resnet50-pipeline"),
        }
        return subprocess.Popen(["bash", SCRIPT], env=environment | variables, text=True)

    start.folder = tmp_path
    return start


def test_the_first_node_runs_and_the_others_join(job) -> None:
    """Every node runs preflight, then `run` or `join` with the rendezvous and the user's parameters."""
    assert job(RESNET50_PARAMS="training.epochs=90").wait(30) == 0
    for node, command in (("0", "run"), ("1", "join")):
        first, second = (line.split() for line in (job.folder / node).read_text().splitlines())
        assert (first[0], second[0]) == ("preflight", command)
        assert first[first.index("--params") + 1] == second[second.index("--params") + 1]
        given = dict(item.split("=") for item in second[second.index("--params") + 1].split(","))
        assert (given.pop("training.resume"), given.pop("training.epochs")) == ("auto", "90")
        launch = {name.removeprefix("training.launch."): value for name, value in given.items()}
        launched = LaunchParameters(device="gpu", devices=(0, 1, 2, 3), **launch)
        assert (launched.machines, launched.rank, launched.master) == (2, int(node), "node-a:20031")
        assert ("--pipelines training" in " ".join(second)) == (command == "run")
    assert "requeue" not in (job.folder / "calls").read_text()


@pytest.mark.slow
def test_preflight_accepts_the_parameters_of_the_script(job) -> None:
    """Preflight accepts the script's parameters and complains only about the missing GPUs and ImageNet."""
    assert job().wait(30) == 0
    (words, _) = (line.split() for line in (job.folder / "1").read_text().splitlines())
    words[0] = "--json"
    words[words.index("--params") + 1] += ",training.launch.host=127.0.0.1"
    done = subprocess.run(
        [sys.executable, "-m", "resnet50_pipeline", "preflight", *words[:1], *words[2:]],
        cwd=SCRIPT.parents[2],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2] / "src"), "SLURM_JOB_ID": "31", **STEP},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert {one["check"] for one in findings if one["status"] == "blocking"} == {"Paddle", "dataset"}
    assert {"SLURM nodes", "SLURM tasks", "SLURM cards"} <= {one["check"] for one in findings if one["status"] == "ok"}


def test_a_job_is_requeued_at_its_time_limit(job) -> None:
    """SIGTERM is passed on to the step's processes; when they have ended, the job is requeued."""
    process = job(LONG="yes")
    deadline = time.monotonic() + 30
    while not (job.folder / "0").exists() or "run run" not in (job.folder / "0").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    calls = (job.folder / "calls").read_text().splitlines()
    assert calls[-2:] == ["scancel --signal=TERM 31.1", "scontrol requeue 31"]


def test_nothing_starts_if_preflight_fails(job) -> None:
    """If a node fails preflight, the job ends before any node waits for another."""
    assert job(PREFLIGHT="1").wait(30) == 1
    assert "run run" not in (job.folder / "0").read_text()


@pytest.mark.parametrize(
    ("code", "earlier_restarts", "is_requeued"),
    [
        (RETRY_EXIT_CODE, 0, True),
        (RETRY_EXIT_CODE, 10, False),
        (137, 3, True),
        (1, 0, False),
        (3, 0, False),
        (5, 0, False),
    ],
)
def test_only_failures_that_may_not_occur_again_requeue_the_job(job, code, earlier_restarts, is_requeued) -> None:
    """Lost ranks requeue the job, up to a limit. Errors, NaN and differing ranks end it."""
    assert job(CODE=str(code), SLURM_RESTART_COUNT=str(earlier_restarts)).wait(30) == code
    assert ("scontrol requeue 31" in (job.folder / "calls").read_text()) == is_requeued
