"""With shards, every stage of `kedro run --env test` reads them instead of loose files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from test_whole_chain import copy_project, kedro_run

from resnet50_pipeline.imagenet.shards.shard_set import read_shard_set

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(900)]


def test_the_whole_chain_works_on_shards(tmp_path: Path):
    """After packing, training, evaluation and registration work without the loose images."""
    copy_project(tmp_path)
    packing = "data_preparation.shards.mode=jpeg-256"
    first = kedro_run(tmp_path, "--pipelines", "sample_data,data_validation,data_preparation", "--params", packing)
    assert first.returncode == 0, first.stdout + first.stderr
    data = tmp_path / "data" / "test"
    shards = data / "05_model_input" / "shards"
    assert read_shard_set(shards).packing.mode == "jpeg-256"
    assert {split: part.images for split, part in read_shard_set(shards).splits.items()} == {"train": 60, "val": 30}
    for image in (data / "01_raw" / "digits").rglob("*.JPEG"):
        image.unlink()
    second = kedro_run(tmp_path, "--pipelines", "training,evaluation,model_registration")
    assert second.returncode == 0, second.stdout + second.stderr
    config = yaml.safe_load((data / "06_models" / "training" / "training_config.yaml").read_text())
    assert {split["dataset"]["shards"] for split in config["DataLoader"].values()} == {str(shards)}
    summary = json.loads((data / "08_reporting" / "evaluation_summary.json").read_text())
    assert summary["packed_pixels"].startswith("jpeg-256, quality 90")
    report = (data / "08_reporting" / "evaluation_report.html").read_text()
    assert f"({summary['packed_pixels']})" in report
    # The digits are smaller than the packed size, so their bytes are unchanged.
    assert f"{summary['packed_fidelity']}." in report
    assert read_shard_set(shards).fidelity.identical == 30
    metrics = json.loads((data / "08_reporting" / "metrics.json").read_text())
    training = json.loads((data / "08_reporting" / "training_summary.json").read_text())
    assert metrics["images"] == 30
    assert metrics["top1"] == pytest.approx(training["best_top1"])
    client = MlflowClient(tracking_uri=f"sqlite:///{data / 'mlflow.db'}")
    assert client.search_model_versions("name='resnet50-test'")[0].version in ("1", 1)
