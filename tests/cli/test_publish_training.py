"""`kedro publish-training` resolves its folder like any shell command, and suggests a training run in that folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from resnet50_pipeline.events import EventWriter, Finished


def publish(project, folder: Path, run_dir: str) -> subprocess.CompletedProcess[str]:
    command = project.command("publish-training", run_dir)
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_folder_is_relative_to_the_shell(probe_project):
    """From a subfolder, `../runs/one` is next to the subfolder. The suggested command trains in the same folder."""
    below = probe_project.path / "below"
    below.mkdir()
    done = publish(probe_project, below, "../runs/one")
    assert done.returncode == 1
    assert "runs/one/06_models/training never started" in done.stderr
    assert "--pipelines training --params run_dir=runs/one,training.resume=auto" in done.stderr

    run_dir = probe_project.path / "runs" / "one"
    training = run_dir / "06_models" / "training"
    (training / "checkpoints" / "epoch-0001").mkdir(parents=True)
    (training / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/epoch-0001", "epoch": 1, "top1": 1.0}))
    writer = EventWriter(training / "events.jsonl")
    writer.write(Finished(epochs=1, step=1, best_epoch=1, best_top1=1.0, seconds=1.0, images_per_second=1.0))
    writer.close()
    (run_dir / "08_reporting").mkdir()
    for name in ("training_history.parquet", "training_summary.json"):
        (run_dir / "08_reporting" / name).write_text(name)
    done = publish(probe_project, below, "../runs/one")
    assert done.returncode == 0, done.stderr
    assert (probe_project.path / "data/sample/06_models/training/best.json").is_file()
