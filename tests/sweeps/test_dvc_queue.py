"""Tests of DVC's experiment queue with real DVC, real Kedro sessions and the project's MLflow store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_stores import client_of, find_runs
from probe_project import ProbeProject
from resnet50_pipeline.tracking.address import find_home

STAGES = """\
stages:
  training:
    cmd: kedro run --pipelines training --params training.seed=${seed}
    params: [seed]
"""
IGNORED = ".dvc_site\nmlflow.db\nmlartifacts\n.mlflow_outbox\n.cache\ndata/*/0[2-9]*\ndata/.*\nevaluated\n__pycache__\n"


@pytest.fixture
def repository(probe_project) -> ProbeProject:
    """The probe project as a Git and DVC repository with one stage."""
    root = probe_project.path
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text("seed: 1\n")
    (root / ".gitignore").write_text(IGNORED)
    for split in ("train", "val"):
        (root / "data" / "sample" / "01_raw" / "digits" / split / ".keep").touch()
    (root / "conf" / "local" / ".keep").touch()
    run(root, "git", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "-m", "probe")
    return probe_project


def run(root: Path, *command: str) -> str:
    """Run a command in the repository and return its output."""
    who = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **who, "PATH": programs, "DVC_SITE_CACHE_DIR": str(root / ".dvc_site")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_queued_experiments_are_logged_to_the_projects_mlflow(repository):
    """Experiments run in a temporary copy of the project. Each has a run, with the stage's run as its child."""
    root = repository.path
    for name in ("low", "high"):
        seed = f"seed={len(name)}"
        run(root, sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name, "--set-param", seed)
    run(root, sys.executable, "-m", "dvc", "exp", "run", "--run-all")
    runs = find_runs(client_of(root), "resnet50-digits")
    parents = {run.info.run_name.split()[4]: run for run in runs if "parent.kind" in run.data.tags}
    assert set(parents) == {"low", "high"}, [run.info.run_name for run in runs]
    for name, parent in parents.items():
        (child,) = (run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id)
        assert child.data.params["training.seed"] == str(len(name))
        assert {parent.info.status, child.info.status} == {"FINISHED"}
        assert parent.data.metrics["evaluation/top1"] == 0.75
        assert client_of(root).list_artifacts(child.info.run_id), "the artifacts outlive the copy"
    assert not (root / ".mlflow_outbox").exists()


@pytest.mark.parametrize(
    ("project", "home"),
    [
        ("/srv/project", "/srv/project"),
        ("/srv/project/.dvc/tmp/exps/tmpabc", "/srv/project"),
        ("/srv/project/.dvc/tmp/exps/standalone/tmpabc", "/srv/project"),
        ("/srv/repository/.dvc/tmp/exps/tmpabc/project", "/srv/repository/project"),
    ],
)
def test_a_copy_made_by_dvc_belongs_to_its_project(project, home):
    """The project may be a subfolder of its repository. Any other folder is a separate project."""
    assert find_home(Path(project)) == Path(home)
