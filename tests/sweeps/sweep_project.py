"""Gives the probe project fast stages that train, stop and resume like the real ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from probe_project import ProbeProject

NODES = '''
import json
import time
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.events import EvalEnd, EventWriter, Finished, Started
from resnet50_pipeline.exceptions import NonFiniteLossError, RankFailedError
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters

EPOCHS = 3


def validate(dataset: DatasetParameters):
    with Path("validated").open("a") as file:
        file.write("x")
    split = {"images": 3, "classes": 1}
    return {"is_valid": True, "data_digest": "sha256:" + 64 * "d", "statistics": {"train": split, "val": split}}


def train(validation_report, training_folder, training: TrainingParameters):
    """Report the learning rate as the top-1 of each epoch, and wait while the file `hold` exists."""
    output = training_folder
    sets = output / "checkpoints"
    done = len(list(sets.glob("*"))) if training.resume else 0
    sets.mkdir(parents=True, exist_ok=True)
    (output / "training_config.yaml").touch()
    writer = EventWriter(output / "events.jsonl")
    writer.write(Started(ranks=1, device="cpu", epochs=EPOCHS, steps_per_epoch=1, train_images=3, val_images=3,
                         first_step=done, paddle_version="0"))
    rate = training.lr.learning_rate
    for epoch in range(done + 1, EPOCHS + 1):
        writer.write(EvalEnd(epoch=epoch, step=epoch, images=3, loss=1 - rate, top1=rate, top5=1, images_per_second=9,
                             is_best=True))
        (sets / f"epoch-{epoch:04d}").mkdir()
        if Path("fail").exists():
            raise RankFailedError("rank 1 was killed by SIGKILL; see log/workerlog.1")
        if Path("diverge").exists():
            raise NonFiniteLossError("loss is nan at step 1")
        time.sleep(1)
        while Path("hold").exists():
            time.sleep(0.05)
    writer.write(Finished(epochs=EPOCHS, step=EPOCHS, best_epoch=1, best_top1=rate, seconds=1, images_per_second=9))
    return output


def evaluate(training_dir):
    return {"top1": 0.75, "top5": 1.0, "loss": 0.5, "images": 3}


def create_pipelines():
    none = Pipeline([])
    return {
        "sample_data": none,
        "data_validation": Pipeline([Node(validate, "params:dataset", "validation_report", name="validate")]),
        "data_preparation": none,
        "training": Pipeline([
            Node(train, ["validation_report", "training_folder", "params:training"], "training_dir",
                 name="train_network"),
        ]),
        "evaluation": Pipeline([Node(evaluate, "training_dir", "metrics", name="evaluate")]),
    }
'''
REGISTRY = """\
from probe.nodes import create_pipelines


def register_pipelines():
    return create_pipelines()
"""
SWEEP: dict[str, Any] = {
    "study": "probe",
    "trials": 2,
    "seed": 1,
    "space": {
        "training.lr.learning_rate": {"low": 0.1, "high": 0.9, "log": False},
        "training.optimizer.l2_coeff": None,
        "training.label_smoothing": None,
    },
    "pruner": {"name": "none"},
}


def prepare(project: ProbeProject, **changes: Any) -> Path:
    """Give the probe project these stages and a sweep, and return the study's folder."""
    package = project.path / "src" / "probe"
    (package / "nodes.py").write_text(NODES)
    (package / "pipeline_registry.py").write_text(REGISTRY)
    local = {"sweep": {**SWEEP, **changes}}
    (project.path / "conf" / "local" / "parameters_sweep.yml").write_text(yaml.safe_dump(local))
    return project.path / "data" / "sample" / "09_sweeps" / "probe"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def evaluations(folder: Path) -> list[int]:
    """Return the epochs that a trial has evaluated, in order."""
    path = folder / "06_models" / "training" / "events.jsonl"
    events = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [event["epoch"] for event in events if event["event"] == "eval_end"]


@pytest.fixture
def hold(probe_project: ProbeProject) -> Path:
    """A file that pauses training runs after an epoch until it is deleted."""
    path = probe_project.path / "hold"
    path.touch()
    return path
