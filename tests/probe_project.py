"""A Kedro project with this project's configuration, hooks, and command line, and with fast stages.

Its nodes have the same names and catalog as the real ones. The file `behavior` controls what they do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

PYPROJECT = """\
[tool.kedro]
package_name = "probe"
project_name = "probe"
kedro_init_version = "1.7.0"
source_dir = "src"
"""

NODES = """\
import time
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.events import EventWriter, TrainStep
from resnet50_pipeline.exceptions import RankFailedError
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters


def behavior():
    return Path("behavior").read_text()


def validate(dataset: DatasetParameters):
    split = {"images": 3, "classes": 1}
    return {"is_valid": True, "data_digest": "sha256:" + 64 * "d", "statistics": {"train": split, "val": split}}


def train(validation_report, training_folder, training: TrainingParameters):
    if training_folder.exists() and not training.resume:
        (training_folder / "events.jsonl").unlink()
    writer = EventWriter(training_folder / "events.jsonl")
    (training_folder / "training_config.yaml").touch()
    for step in range(1, 4):
        writer.write(TrainStep(step=step, epoch=1, loss=1 / step, top1=0.5, learning_rate=0.1, images_per_second=9,
                               reader_seconds=0, batch_seconds=1))
    writer.close()
    (training_folder / "checkpoints" / "epoch-0000-step-0000000003").mkdir(parents=True, exist_ok=True)
    if behavior() in ("wait", "swallow"):
        Path("waiting").touch()
        try:
            time.sleep(60)
        except Exception:
            if behavior() == "wait":
                raise
    if behavior() == "wait a moment":
        Path("waiting").touch()
        time.sleep(3)
    if behavior() == "fail":
        raise RankFailedError("rank 1 was killed by SIGKILL; see log/workerlog.1")
    if behavior() == "bug":
        raise ZeroDivisionError("a bug")
    return training_folder


def evaluate(training_dir):
    import pandas as pd

    Path("evaluated").touch()
    metrics = {"top1": 0.75, "top5": 1.0, "loss": 0.5, "images": 3}
    return metrics, "<html>report</html>", pd.DataFrame({"corruption": []})


def create_pipeline():
    return Pipeline([
        Node(validate, "params:dataset", "validation_report", name="validate"),
        Node(train, ["validation_report", "training_folder", "params:training"], "training_dir", name="train_network"),
        Node(evaluate, "training_dir", ["metrics", "evaluation_report", "robustness"], name="evaluate"),
    ])
"""

REGISTRY = """\
from probe.nodes import create_pipeline


def register_pipelines():
    return {"__default__": create_pipeline(), "training": create_pipeline()}
"""


@dataclass(frozen=True)
class ProbeProject:
    """The project's folder, and commands to run it."""

    path: Path

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `kedro …`."""
        return [str(Path(sys.executable).with_name("kedro")), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kedro …` until it ends."""
        return subprocess.run(
            self.command(*arguments),
            check=False,
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=120,
            env=_environment(),
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kedro …`."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        )

    def behave(self, behavior: str) -> None:
        """Set what the training node does.

        Args:
            behavior: finish, fail, bug, wait, wait a moment, or swallow (wait, and ignore the exception that ends it).
        """
        (self.path / "behavior").write_text(behavior)


@pytest.fixture
def probe_project(tmp_path) -> ProbeProject:
    """A probe project with a dataset and an empty MLflow store."""
    from mlflow_stores import make_database

    path = tmp_path / "probe"
    package = path / "src" / "probe"
    package.mkdir(parents=True)
    (path / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text("from resnet50_pipeline.settings import *\n")
    (package / "cli.py").write_text("from resnet50_pipeline.cli import cli, run\n")
    (package / "nodes.py").write_text(NODES)
    (package / "pipeline_registry.py").write_text(REGISTRY)
    shutil.copytree(REPOSITORY / "conf" / "base", path / "conf" / "base")
    shutil.copy(REPOSITORY / "conf" / "logging.yml", path / "conf" / "logging.yml")
    (path / "conf" / "local").mkdir()
    root = path / "data" / "sample" / "01_raw" / "digits"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / f"{split}_list.txt").write_text("")
    make_database(path / "mlflow.db")
    project = ProbeProject(path)
    project.behave("finish")
    return project


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "200"}
