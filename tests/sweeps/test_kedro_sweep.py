"""Tests of `kedro sweep` with real Kedro sessions, a real Optuna database and a real MLflow store."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from sweep_project import evaluations, prepare, wait_for

from mlflow_stores import client_of, find_runs
from resnet50_pipeline.commands.sweep import render_table
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.study import Study, TrialRow

EXPERIMENT = "resnet50-digits"
PARENT = "mlflow.parentRunId"


def study_of(folder: Path) -> Study:
    values = {"study": folder.name, "output_dir": folder.parent, "trials": 2}
    space = {"training.lr.learning_rate": {"low": 0.1, "high": 0.9}}
    return Study(SweepParameters.model_validate({**values, "space": space, "pruner": {"name": "none"}}))


def runs_of(project):
    """Return the sweep's run, the runs of its trials keyed by number, and all trial runs."""
    runs = find_runs(client_of(project.path), EXPERIMENT)
    (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "sweep")
    children = [run for run in runs if run.data.tags.get(PARENT) == parent.info.run_id]
    assert len(children) == len(runs) - 1
    trials = [run for run in children if "sweep.trial" in run.data.tags]
    return parent, {int(run.data.tags["sweep.trial"]): run for run in trials}, trials


@pytest.mark.slow
def test_sweep_resumes_the_same_trial_after_sigkill(probe_project, hold):
    """The trial's run stops, and the next sweep resumes the trial.

    A second sweep of the study that runs at the same time runs another trial, and both count toward the total.
    """
    folder = prepare(probe_project)
    sweep = probe_project.start("sweep")
    wait_for(lambda: evaluations(folder / "trial-0000") == [1])
    (trial,) = psutil.Process(sweep.pid).children()
    sweep.kill()
    sweep.communicate()
    trial.wait(30)
    assert evaluations(folder / "trial-0000") == [1]
    shown = probe_project.run("sweep", "--show")
    assert shown.returncode == 0, shown.stderr
    assert "stopped" in shown.stdout.splitlines()[1]
    resumed, second = probe_project.start("sweep"), None
    try:
        wait_for(lambda: evaluations(folder / "trial-0000") == [1, 2])
        second = probe_project.start("sweep")
        wait_for(lambda: evaluations(folder / "trial-0001") == [1])
        hold.unlink()
        for process in (resumed, second):
            _, errors = process.communicate(timeout=90)
            assert process.returncode == 0, errors
    finally:
        for process in filter(None, (resumed, second)):
            process.kill()
    rows = study_of(folder).rows()
    assert [(row.number, row.state) for row in rows] == [(0, "complete"), (1, "complete")]
    assert evaluations(folder / "trial-0000") == evaluations(folder / "trial-0001") == [1, 2, 3]
    assert (probe_project.path / "validated").read_text() == "x", "the data stages run once"
    parent, by_number, trials = runs_of(probe_project)
    assert len(trials) == len(by_number) == 2, "the resumed trial has one run"
    best = next(row for row in rows if row.rank == 1)
    assert {run.info.status for run in (parent, *trials)} == {"FINISHED"}
    assert {run.data.tags["sweep.state"] for run in trials} == {"complete"}
    assert parent.data.tags["sweep.best_trial"] == str(best.number)
    assert parent.data.metrics["sweep/best_value"] == best.value
    assert float(by_number[best.number].data.params["training.lr.learning_rate"]) == best.value
    kept = [number for number in (0, 1) if (folder / f"trial-000{number}/06_models/training/checkpoints").exists()]
    assert kept == [best.number]
    logged = client_of(probe_project.path).list_artifacts(parent.info.run_id, "sweep")
    assert {Path(file.path).name for file in logged} == {"trials.csv", "index.html"}
    note, page = parent.data.tags["mlflow.note.content"], "runs/{}?workflowType=machine_learning)"
    assert note.startswith(f"val/top1 {best.value:.4f} in trial {best.number} (2 of 2 trials: 2 complete)\n")
    assert note.index(f"[trial {best.number}]") < note.index(f"[trial {1 - best.number}]")
    assert all(page.format(run.info.run_id) in note for run in trials)
    assert "artifacts/sweep/index.html" in note


@pytest.mark.slow
def test_failed_trial_stops_the_sweep_and_is_resumed(probe_project):
    """The error names the trial, the cause and the next step. The next sweep resumes the trial, even after Ctrl-C.

    A non-finite loss ends only its own trial.
    """
    folder = prepare(probe_project)
    (probe_project.path / "fail").touch()
    failed = probe_project.run("sweep")
    assert failed.returncode == 1
    assert "error: trial 0 " in failed.stderr
    assert "log/workerlog.1" in failed.stderr
    assert "sweep.on_error=next" in failed.stderr
    assert runs_of(probe_project)[0].info.status == "FAILED"
    (probe_project.path / "fail").unlink()
    (probe_project.path / "hold").touch()
    sweep = probe_project.start("sweep")
    wait_for(lambda: evaluations(folder / "trial-0000") == [1, 2])
    sweep.send_signal(signal.SIGINT)
    sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signal.SIGINT
    parent, by_number, _ = runs_of(probe_project)
    assert (parent.info.status, by_number[0].info.status) == ("KILLED", "KILLED")
    (probe_project.path / "hold").unlink()
    (probe_project.path / "diverge").touch()
    assert probe_project.run("sweep").returncode == 0
    assert [row.state for row in study_of(folder).rows()] == ["diverged", "diverged"]
    parent, by_number, trials = runs_of(probe_project)
    assert parent.info.status == "FINISHED"
    assert "error" not in parent.data.tags
    assert len(trials) == 2
    assert {(run.info.status, run.data.tags["sweep.state"]) for run in trials} == {("FAILED", "diverged")}


def test_invalid_space_is_rejected_before_anything_starts(probe_project):
    """The error shows the path and suggests a similar one. Neither a study nor a run is created."""
    folder = prepare(probe_project, space={"training.lr.learning_rat": {"low": 0.1, "high": 0.9}})
    refused = probe_project.run("sweep")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: sweep.space: training.lr.learning_rat=")
    assert "did you mean learning_rate?" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not folder.exists()
    assert find_runs(client_of(probe_project.path), EXPERIMENT) == []


def test_missing_optuna_is_reported_with_the_install_command(probe_project, monkeypatch):
    """Optuna is an optional dependency, and the error says how to install it."""
    hidden = probe_project.path / "hidden"
    hidden.mkdir()
    (hidden / "optuna.py").write_text("raise ModuleNotFoundError('no optuna', name='optuna')\n")
    monkeypatch.setenv("PYTHONPATH", f"{hidden}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    prepare(probe_project)
    refused = probe_project.run("sweep")
    assert refused.returncode == 1
    assert "pip install 'resnet50-pipeline[sweep]'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_table_marks_the_best_trial_and_counts_the_states():
    """Each trial has a line; the best one is marked with a star."""
    space = {"training.lr.learning_rate": {"low": 0.1, "high": 0.9}}
    sweep = SweepParameters(study="s", output_dir=Path("out"), trials=3, space=space)
    rows = [
        TrialRow(0, "complete", 0.91234, 5, 61.2, {"training.lr.learning_rate": 0.123456}, rank=1),
        TrialRow(1, "failed", None, 0, 3.0, {"training.lr.learning_rate": 0.9}, "rank 1 was killed\nsee its log"),
    ]
    assert render_table(rows, sweep) == [
        "   trial  state     val/top1  epochs  time  lr.learning_rate",
        "*  0      complete  0.9123    5       61 s  0.1235",
        "   1      failed              0       3 s   0.9               rank 1 was killed",
        "study s: val/top1 0.9123 in trial 0 (2 of 3 trials: 1 complete, 1 failed)",
    ]
    assert render_table([], sweep)[-1] == "study s: 0 of 3 trials: none yet"
