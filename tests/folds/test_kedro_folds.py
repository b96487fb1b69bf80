"""`kedro folds` trains and evaluates each fold, and records the mean and the spread in one MLflow run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from project_copy import copy_project
from resnet50_pipeline.commands.folds import render_table
from resnet50_pipeline.folds.results import FoldResult, summarize
from resnet50_pipeline.imagenet.lists.fixes import read_fixes

METRICS = ("top1", "balanced_accuracy", "loss")
TRAINING = {
    "epochs": 2,
    "batch_size_per_rank": 4,
    "arch": {"name": "ResNet18", "zero_init_residual": False},
    "launch": {"devices": [0]},
}


def test_mean_and_spread_have_one_unit():
    """The table shows the sample standard deviation and the number of folds.

    A single fold has no standard deviation.
    """
    results = [
        FoldResult(fold=n, images=10, top1=top1, balanced_accuracy=0.5, loss=1.0, seconds=61)
        for n, top1 in ((1, 0.8), (2, 0.9), (3, 0.7))
    ]
    top1 = summarize(results)["top1"]
    assert (top1.mean, top1.std, top1.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    table = render_table(results)
    assert table[1].split() == ["1", "10", "80.00%", "50.00%", "1.0000", "1", "min", "1", "s"]
    assert table[-3].split() == ["mean", "80.00%", "50.00%", "1.0000"]
    assert table[-2].split() == ["std", "10.00%", "0.00%", "0.0000"]
    assert table[-1].endswith("n = 3 folds")
    assert [line.split()[0] for line in render_table(results[:1])] == ["fold", "1", "mean", "mean"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, next to a folder with three classes of 8 tiny images."""
    root = tmp_path / "project"
    root.mkdir()
    copy_project(root)
    random = np.random.default_rng(0)
    for label, name in enumerate(("dark", "gray", "light")):
        (tmp_path / "shades" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(80 * label, 80 * label + 90, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "shades" / name / f"{number}.png")
    return root


def run_kedro(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `kedro …` in the project."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    return subprocess.Popen(
        [programs / "kedro", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def images_of(folder: Path) -> list[Path]:
    """Return the images of the dataset."""
    return list((folder / "shades").rglob("*.png"))


def finish(process: subprocess.Popen[str], exit_code: int = 0) -> tuple[str, str]:
    """Wait for the command, and return its stdout and stderr."""
    output, errors = process.communicate(timeout=400)
    assert process.returncode == exit_code, output + errors
    return output, errors


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_folds_continue_and_end_with_mean_and_spread(project, tmp_path):
    """If the command is killed during fold 2, the next one only runs fold 2, in the same MLflow run."""
    finish(run_kedro(project, "adopt", str(tmp_path / "shades"), "--folds", "2"))
    parameters = project / "conf/shades/parameters.yml"
    content = yaml.safe_load(parameters.read_text())
    parameters.write_text(yaml.safe_dump(content | {"training": TRAINING, "evaluation": {"bootstrap_resamples": 100}}))
    folder = project / "data/shades/09_folds"
    first = run_kedro(project, "folds", "--env", "shades")
    for line in first.stderr:
        if "fold 2 of 2" in line:
            break
    first.kill()
    first.communicate()
    kept = (folder / "fold-1/result.json").read_bytes()
    written = (folder / "fold-1/06_models/training/events.jsonl").stat().st_mtime_ns
    changed = finish(run_kedro(project, "folds", "--env", "shades", "--params", "training.epochs=3"), 1)
    assert "training.epochs: 2 in the earlier folds, 3 now" in changed[1]
    output, _ = finish(run_kedro(project, "folds", "--env", "shades"))
    assert output.splitlines()[-1].endswith("n = 2 folds")
    assert (folder / "fold-1/result.json").read_bytes() == kept
    assert (folder / "fold-1/06_models/training/events.jsonl").stat().st_mtime_ns == written
    metrics = [json.loads((folder / f"fold-{n}/08_reporting/metrics.json").read_text()) for n in (1, 2)]
    assert [one["images"] for one in metrics] == [12, 12]
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("resnet50-shades").experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "folds")
    assert parent.info.status == "FINISHED"
    for name in METRICS:
        values = [one[name] for one in metrics]
        assert parent.data.metrics[f"folds/{name}_mean"] == pytest.approx(statistics.fmean(values))
        assert parent.data.metrics[f"folds/{name}_std"] == pytest.approx(statistics.stdev(values))
        points = client.get_metric_history(parent.info.run_id, f"folds/{name}")
        assert [point.value for point in sorted(points, key=lambda point: point.step)] == values
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    finished = {run.data.tags["folds.fold"]: run for run in children if run.info.status == "FINISHED"}
    assert set(finished) == {"1", "2"}
    for number, run in finished.items():
        assert run.data.metrics["evaluation/top1"] == metrics[int(number) - 1]["top1"]
    tables = ["folds.csv", "label_issues.csv", "out_of_fold_predictions.parquet"]
    assert [Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "folds")] == tables
    predictions = pd.read_parquet(folder / tables[2])
    assert sorted(predictions["path"]) == sorted(f"{path.parent.name}/{path.name}" for path in images_of(tmp_path))
    for number, part in predictions.groupby("fold"):
        own = pd.read_parquet(folder / f"fold-{number}/07_model_output/predictions.parquet")
        assert part["loss"].tolist() == own["loss"].tolist()
    read_fixes(folder / tables[1])
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith(f"top-1 {statistics.fmean(one['top1'] for one in metrics):.2%} ± ")
    assert all(f"| [fold {n}](#/experiments/" in note and run.info.run_id in note for n, run in finished.items())
    again, _ = finish(run_kedro(project, "folds", "--env", "shades"))
    assert again == output
    assert len(client.search_runs([parent.info.experiment_id])) == len(runs)


def test_an_environment_without_folds_is_an_error(project):
    """The error says how to create folds."""
    _, errors = finish(run_kedro(project, "folds", "--env", "test"), 1)
    assert "kedro adopt PATH --folds" in errors
    assert "Traceback" not in errors
