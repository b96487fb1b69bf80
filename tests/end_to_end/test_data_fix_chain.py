"""Wrong labels are fixed with a patch: the next run uses the patched lists, and undo restores them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from project_copy import copy_project
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.reporting.page_data import unpack

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(2400)]

# One short epoch. The accuracy does not matter here, so the gate accepts any.
PARAMETERS = (
    "training.epochs=1,training.batch_size_per_rank=10,tracking.system_metrics_interval_seconds=null,"
    "model_registration.gate.min_accuracy=0.0,model_registration.gate.max_accuracy_drop=1.0"
)


def kedro(root: Path, *arguments: str) -> str:
    """Run a kedro command in the copy of the project, and return what it prints to stdout."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(root / "src"),
        "HOME": str(root / "home"),
    }
    done = subprocess.run(
        ["kedro", *arguments], cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "data" / "flipped" / "08_reporting" / f"{name}.json").read_text())
    return content


def flip(images: Path) -> dict[str, str]:
    """Move four threes in train/ and one five in val/ to the folders of other digits. Return {path: true class}."""
    moved = {}
    for split, right, wrong, count in (("train", "n00000003", "n00000008", 4), ("val", "n00000005", "n00000006", 1)):
        for path in sorted((images / split / right).iterdir())[:count]:
            target = images / split / wrong / path.name
            path.rename(target)
            moved[target.relative_to(images).as_posix()] = right
    return moved


def check_lists(root: Path, flipped: dict[str, str]) -> None:
    """Check that the prepared lists have the right labels, and that the predictions have the digests of the images."""
    workspace = root / "data" / "flipped"
    for split in ("train", "val"):
        text = (workspace / "05_model_input" / f"{split}_list.txt").read_text()
        labels = dict(line.rsplit(" ", 1) for line in text.splitlines())
        expected = {path: str(int(right[1:])) for path, right in flipped.items() if path.startswith(split)}
        assert {path: labels[path] for path in expected} == expected
    predictions = pd.read_parquet(workspace / "07_model_output" / "predictions.parquet")
    manifest = pd.read_parquet(workspace / "02_intermediate" / "manifest.parquet")
    digests = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    assert predictions["sha256"].tolist() == [digests[path] for path in predictions["path"]]


def test_from_wrong_labels_to_a_comparison(tmp_path: Path):
    """The patch reaches the lists, the digests, the gate, the report and the registered version; undo removes it."""
    root = tmp_path / "project"
    copy_project(root)
    images = root / "flipped"
    write_sample(images, train_images_per_class=20, val_images_per_class=6)
    for name in ("train_list.txt", "val_list.txt"):
        (images / name).unlink()
    flipped = flip(images)
    state = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    kedro(root, "adopt", "flipped", "--no-probe")
    run = ("run", "--env", "flipped", "--params", PARAMETERS)
    kedro(root, *run)
    before = read(root, "validation_report")
    assert before["patches"] == []

    with (root / "findings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "action", "label", "reason"])
        rows.writerows([path, "relabel", right, "in the wrong folder"] for path, right in flipped.items())
    said = kedro(root, "data-fix", "findings.csv", "--env", "flipped", "--reason", "checked by hand")
    assert said == (
        "data/flipped/01_raw/patches/0001.json: 5 images relabeled\n"
        "train on the changed lists with: kedro run --env flipped\n"
    )
    kedro(root, *run)
    after = read(root, "validation_report")
    assert after["data_digest"] != before["data_digest"]
    assert after["is_valid"]
    (patch,) = after["patches"]
    check_lists(root, flipped)
    comparison = read(root, "comparison")
    assert [comparison[name] for name in ("rival_version", "rival_patches", "images", "relabeled")] == [1, [], 60, 1]
    registered = read(root, "registered_model")
    (drop,) = [one for one in registered["gate"]["checks"] if one["rule"] == "max_accuracy_drop"]
    assert (drop["passed"], "on the 60 images that both evaluations contain" in drop["finding"]) == (True, True)
    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    versions = client.search_model_versions("name = 'resnet50-flipped'")
    assert {int(one.version): one.tags["patches"] for one in versions} == {1: "none", 2: patch["id"]}
    (experiment,) = client.search_experiments(filter_string="name = 'resnet50-flipped'")
    runs = client.search_runs([experiment.experiment_id])
    assert len({dataset.dataset.digest for one in runs for dataset in one.inputs.dataset_inputs}) == 2
    html = (root / "data" / "flipped" / "08_reporting" / "evaluation_report.html").read_text()
    section = html.partition('<section id="patches">')[2].partition("</section>")[0]
    assert patch["id"] in section
    assert "checked by hand" in section
    assert section.count("in the wrong folder") == 5
    assert "resnet50-flipped version 1 was trained without patches" in section
    assert unpack(html.partition('id="report-data">')[2].partition("<")[0])["images"]["total"] == 60

    assert kedro(root, "data-fix", "--undo", "--env", "flipped").startswith("removed data/flipped/01_raw/patches/0001")
    kedro(root, "run", "--env", "flipped", "--pipelines", "data_validation")
    assert read(root, "validation_report")["data_digest"] == before["data_digest"]
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == state
