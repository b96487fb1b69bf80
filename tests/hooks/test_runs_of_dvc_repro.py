"""The stages of one `dvc repro` share a parent run. These tests use the real DVC, Kedro and MLflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_stores import client_of, find_runs
from probe_project import ProbeProject

pytestmark = pytest.mark.slow  # processes that import DVC, Kedro and MLflow

EXPERIMENT = "resnet50-digits"
PARENT = "mlflow.parentRunId"
# The second stage has no dependencies, so --keep-going runs it after the first has failed.
STAGES = """\
stages:
  data_validation:
    cmd: kedro run --to-nodes validate --params training.seed=${seed}
    params: [seed]
  training:
    cmd: kedro run --pipelines training --from-nodes train_network --params training.seed=${seed}
    params: [seed]
"""


@pytest.fixture
def dvc_project(probe_project) -> ProbeProject:
    """A small project with two DVC stages."""
    (probe_project.path / "dvc.yaml").write_text(STAGES)
    (probe_project.path / "params.yaml").write_text("seed: 1\n")
    assert start_dvc(probe_project, "init", "--no-scm").wait(60) == 0
    probe_project.run("run", "--to-nodes", "validate")  # writes the report that the second stage reads
    return probe_project


def start_dvc(project: ProbeProject, *arguments: str) -> subprocess.Popen[str]:
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project.path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def runs_by_parent(project: ProbeProject):
    """Return the parents, oldest first, and the children of each parent by stage."""
    runs = [run for run in find_runs(client_of(project.path), EXPERIMENT) if "dvc.stage" in run.data.tags]
    parents = [run for run in find_runs(client_of(project.path), EXPERIMENT) if "parent.kind" in run.data.tags]
    return parents, [
        {run.data.tags["dvc.stage"]: run for run in runs if run.data.tags[PARENT] == parent.info.run_id}
        for parent in parents
    ]


def test_stages_of_a_repro_are_children_of_one_run(dvc_project):
    """Each `dvc repro` has its own parent run, which gets the metrics and tags of its children."""
    assert start_dvc(dvc_project, "repro").wait(120) == 0
    (dvc_project.path / "params.yaml").write_text("seed: 2\n")
    assert start_dvc(dvc_project, "repro").wait(120) == 0
    parents, children = runs_by_parent(dvc_project)
    assert [set(of_one) for of_one in children] == [{"data_validation", "training"}] * 2
    for parent, of_one in zip(parents, children, strict=True):
        assert parent.info.run_name.startswith("ResNet50 local dvc repro 2")
        assert {parent.info.status, *(run.info.status for run in of_one.values())} == {"FINISHED"}
        assert parent.info.end_time >= max(run.info.start_time for run in of_one.values())
        figures = of_one["training"].data.metrics
        assert parent.data.metrics == {name: figures[name] for name in figures if name.startswith("evaluation/")}
        assert parent.data.tags["data_digest"] == "sha256:" + 64 * "d"
        assert {"recipe", "engine", "devices", "environment", "git_commit", "git_dirty"} <= set(parent.data.tags)
        assert "kedro.pipelines" not in parent.data.tags
    assert children[1]["training"].data.params["training.seed"] == "2"
    alone, *_ = find_runs(client_of(dvc_project.path), EXPERIMENT)
    assert PARENT not in alone.data.tags, "a separate `kedro run` has no parent"


def test_a_failed_stage_fails_the_parent(dvc_project):
    """With --keep-going, a later successful stage does not change the parent to FINISHED."""
    (dvc_project.path / "dvc.yaml").write_text(
        STAGES.replace("data_validation:", "a_training:")
        .replace("cmd: kedro run --to-nodes validate", "cmd: kedro run --pipelines training --from-nodes train_network")
        .replace(
            "  training:\n    cmd: kedro run --pipelines training --from-nodes train_network",
            "  validation:\n    cmd: kedro run --to-nodes validate",
        )
    )
    dvc_project.behave("fail")
    assert start_dvc(dvc_project, "repro", "--keep-going").wait(120) != 0
    (parent,), (of_one,) = runs_by_parent(dvc_project)
    assert {stage: run.info.status for stage, run in of_one.items()} == {
        "a_training": "FAILED",
        "validation": "FINISHED",
    }
    assert parent.info.status == "FAILED"
    assert parent.data.tags["error"].startswith("RankFailedError")


def test_the_next_run_marks_a_sigkilled_repro_as_killed(dvc_project):
    """After SIGKILL, neither DVC nor its stage can end its MLflow run, so the next run ends both."""
    dvc_project.behave("wait")
    process = start_dvc(dvc_project, "repro")
    deadline = time.monotonic() + 90
    while not (dvc_project.path / "waiting").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (parent,), (of_one,) = runs_by_parent(dvc_project)
    assert {parent.info.status, of_one["training"].info.status} == {"RUNNING"}
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    dvc_project.behave("finish")
    assert dvc_project.run("run").returncode == 0
    (parent,), (of_one,) = runs_by_parent(dvc_project)
    assert {parent.info.status, of_one["training"].info.status} == {"KILLED"}


def test_two_variables_give_runs_a_common_parent(probe_project, monkeypatch):
    """Programs that start several `kedro run` processes can set a key and a title for their parent run."""
    monkeypatch.setenv("TRACKING_PARENT_SESSION", "search-17")
    monkeypatch.setenv("TRACKING_PARENT_NAME", "learning rates")
    for _ in range(2):
        assert probe_project.run("run").returncode == 0
    runs = find_runs(client_of(probe_project.path), EXPERIMENT)
    (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "program")
    assert parent.info.run_name == "ResNet50 local learning rates"
    assert [run.data.tags.get(PARENT) for run in runs if run is not parent] == [parent.info.run_id] * 2


def test_a_successful_retry_finishes_the_parent(probe_project, monkeypatch):
    """The parent is FAILED after the first attempt and FINISHED, without an error tag, after the second."""
    monkeypatch.setenv("TRACKING_PARENT_SESSION", "dag/2026-11-24")
    states = []
    for attempt, behavior in (("1", "fail"), ("2", "finish")):
        monkeypatch.setenv("TRACKING_PARENT_ATTEMPT", attempt)
        probe_project.behave(behavior)
        probe_project.run("run")
        runs = find_runs(client_of(probe_project.path), EXPERIMENT)
        (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "program")
        states.append((parent.info.status, "error" in parent.data.tags))
    assert states == [("FAILED", True), ("FINISHED", False)]
    assert sorted(run.info.status for run in runs if run is not parent) == ["FAILED", "FINISHED"]
    assert parent.data.tags["process.pid"] == str(os.getpid())
