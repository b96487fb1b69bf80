"""Tests a sweep that trains ResNet18 on a few digits. One trial is killed and resumed; another is pruned."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from sweep_project import evaluations, wait_for

from project_copy import copy_project
from resnet50_pipeline.events import Started, read_events

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
RATE = "training.lr.learning_rate"
# With this seed, the first rate is 0.017, and the second is 0.039, which leads to a greater loss after the first epoch.
SWEEP = {
    "seed": 6,
    "metric": "val/loss",
    "direction": "minimize",
    "space": {
        "training.optimizer.l2_coeff": None,
        "training.label_smoothing": None,
        RATE: {"low": 0.0001, "high": 0.08, "log": True},
    },
}
TRAINING = {
    "epochs": 3,
    "arch": {"name": "ResNet18", "zero_init_residual": False},
    "launch": {"devices": [0]},
    "save_interval_steps": 1,
}
EVALUATION = {"compare_with": None, "bootstrap_resamples": 100, "gallery_images": 0}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project whose `test` environment sweeps over small training runs."""
    copy_project(tmp_path)
    for group, changes in (("sweep", SWEEP), ("training", TRAINING), ("evaluation", EVALUATION)):
        path = tmp_path / "conf" / "test" / f"parameters_{group}.yml"
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({group: content[group] | changes}))
    return tmp_path


def start_sweep(project: Path) -> subprocess.Popen[str]:
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    return subprocess.Popen(
        [programs / "kedro", "sweep", "--env", "test"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_sweep_resumes_a_killed_trial_and_prunes_another(project):
    """The three trials are three child runs of the sweep's run. The run of the pruned trial is KILLED."""
    study = project / "data" / "test" / "09_sweeps" / "test"
    sweep = start_sweep(project)
    wait_for(lambda: evaluations(study / "trial-0000") == [1], seconds=180)
    sweep.kill()
    sweep.communicate()
    sweep = start_sweep(project)
    output, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, output
    events = read_events(study / "trial-0000" / "06_models" / "training" / "events.jsonl")
    starts = [event.first_step for event in events if isinstance(event, Started)]
    assert len(starts) == 2
    assert starts[1] >= 3, "the trial resumed from a checkpoint set after the first epoch"
    client = MlflowClient(f"sqlite:///{project / 'data' / 'test' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("resnet50-test").experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "sweep")
    trials = {int(run.data.tags["sweep.trial"]): run for run in runs if "sweep.trial" in run.data.tags}
    assert len([run for run in runs if "sweep.trial" in run.data.tags]) == len(trials) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.info.run_id}
    states = {number: (run.info.status, run.data.tags["sweep.state"]) for number, run in trials.items()}
    assert states[0] == ("FINISHED", "complete")
    assert states[1] == ("KILLED", "pruned")
    assert evaluations(study / "trial-0001") == [1]
    assert parent.info.status == "FINISHED"
    epochs = [point.step for point in client.get_metric_history(trials[0].info.run_id, "val/loss")]
    assert sorted(epochs) == [1, 2, 3], "the curve of the resumed trial has each epoch once"
