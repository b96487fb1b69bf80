"""The stages of one `dvc repro` under one parent run: real DVC, real Kedro sessions, a real MLflow store."""

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
# The second stage depends on nothing, so that --keep-going goes on with it.
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
    """The probe project with two DVC stages."""
    (probe_project.path / "dvc.yaml").write_text(STAGES)
    (probe_project.path / "params.yaml").write_text("seed: 1\n")
    assert start_dvc(probe_project, "init", "--no-scm").wait(60) == 0
    probe_project.run("run", "--to-nodes", "validate")  # whose report the second stage reads in every order
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
    """Return the parents, oldest first, and the children of each by their stage."""
    runs = [run for run in find_runs(client_of(project.path), EXPERIMENT) if "dvc.stage" in run.data.tags]
    parents = [run for run in find_runs(client_of(project.path), EXPERIMENT) if "parent.kind" in run.data.tags]
    return parents, [
        {run.data.tags["dvc.stage"]: run for run in runs if run.data.tags[PARENT] == parent.info.run_id}
        for parent in parents
    ]


def test_stages_of_a_repro_are_children_of_one_run(dvc_project):
    """One parent a repro, named after it, with the facts and figures of its children; the next repro has its own."""
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
    assert PARENT not in alone.data.tags, "a `kedro run` by hand is gathered by nothing"


def test_a_stage_that_fails_makes_the_parent_failed_for_good(dvc_project):
    """With --keep-going a later stage that ends well does not turn the parent into FINISHED."""
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


def test_a_repro_that_was_sigkilled_is_killed_at_the_next_start(dvc_project):
    """Neither DVC nor its stage can say that they were killed; the next run says it for both."""
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


def test_another_program_gathers_by_two_variables(probe_project, monkeypatch):
    """What starts several `kedro run` names a key and a title, and they are children of one run."""
    monkeypatch.setenv("TRACKING_PARENT_SESSION", "search-17")
    monkeypatch.setenv("TRACKING_PARENT_NAME", "learning rates")
    for _ in range(2):
        assert probe_project.run("run").returncode == 0
    runs = find_runs(client_of(probe_project.path), EXPERIMENT)
    (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "program")
    assert parent.info.run_name == "ResNet50 local learning rates"
    assert [run.data.tags.get(PARENT) for run in runs if run is not parent] == [parent.info.run_id] * 2


def test_a_program_that_tries_again_has_not_failed(probe_project, monkeypatch):
    """The parent is FAILED with the run that failed, and what the second try makes of it; its process is the last."""
    monkeypatch.setenv("TRACKING_PARENT_SESSION", "dag/2026-11-24")
    states = []
    for attempt, behaviour in (("1", "fail"), ("2", "finish")):
        monkeypatch.setenv("TRACKING_PARENT_ATTEMPT", attempt)
        probe_project.behave(behaviour)
        probe_project.run("run")
        runs = find_runs(client_of(probe_project.path), EXPERIMENT)
        (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "program")
        states.append((parent.info.status, "error" in parent.data.tags))
    assert states == [("FAILED", True), ("FINISHED", False)]
    assert sorted(run.info.status for run in runs if run is not parent) == ["FAILED", "FINISHED"]
    assert parent.data.tags["process.pid"] == str(os.getpid())
