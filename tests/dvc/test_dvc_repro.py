"""`dvc repro` in a clean clone does what `kedro run` does, then nothing, then only what a change asks for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from resnet50_pipeline.pipeline_registry import STAGES

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Clone:
    """A clone of the working tree with a history of its own, whose sample is as small as that of conf/test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        for name in filter(None, listed.stdout.split("\0")):
            # Results of runs in the working tree are no part of a clone.
            is_result = (name.startswith("data/") and name != "data/README.md") or name.endswith("dvc.lock")
            if (PROJECT / name).is_file() and not is_result:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, root / name)
        for path in (root / "conf" / "test").glob("parameters*.yml"):
            self.edit_parameters(path.name, yaml.safe_load(path.read_text(encoding="utf-8")))
        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "clone")

    def run(self, *command: str) -> str:
        """Run a command in the clone, with the programs of this environment, and return what it prints."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc" / "tmp" / "site"),
            "DVC_NO_ANALYTICS": "1",
            "COLUMNS": "200",
        }
        result = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` and return the stages that it ran, or with --dry would run, in order."""
        return re.findall(r"^Running stage '(\w+)':", self.run("dvc", "repro", *arguments), re.MULTILINE)

    def edit_parameters(self, file: str, change: dict[str, Any]) -> None:
        """Merge `change` into a parameter file of conf/base."""
        path = self.root / "conf" / "base" / file
        merged = _merged(yaml.safe_load(path.read_text(encoding="utf-8")), change)
        path.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")

    def untracked(self) -> set[str]:
        """Return the files that git would offer to commit."""
        lines = self.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
        return {line.removeprefix("?? ") for line in lines}


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone after its first `dvc repro`."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    assert clone.repro() == list(STAGES)
    return clone


def test_a_first_repro_writes_every_out(reproduced: Clone) -> None:
    """Every stage runs, every out is there and in dvc.lock, and git is offered the lock and the metrics only."""
    stages = yaml.safe_load((reproduced.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    outs = {
        out if isinstance(out, str) else next(iter(out))
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    }
    locked = yaml.safe_load((reproduced.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert {out["path"] for stage in locked.values() for out in stage["outs"]} == outs
    assert [out for out in outs if not (reproduced.root / out).exists()] == []
    assert reproduced.untracked() == {"dvc.lock", "data/sample/08_reporting/metrics.json"}


def test_a_second_repro_runs_nothing(reproduced: Clone) -> None:
    """Nothing that a run or Python leaves behind (logs, __pycache__, the MLflow database) counts as a change."""
    assert reproduced.repro() == []


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("imagenet/sample.py", ["sample_data", "data_validation", "data_preparation"]),
        ("expectations/suite.py", ["data_validation"]),
        ("trainer/optimizer.py", ["training"]),
        ("trainer/export.py", ["model_registration"]),
        ("imaging/decode.py", ["data_validation", "data_preparation", "training", "evaluation", "model_registration"]),
        ("reporting/metrics.py", ["evaluation"]),
        ("exceptions.py", []),
    ],
)
def test_a_change_of_code_concerns_the_stages_that_use_it(reproduced: Clone, module: str, stages: list[str]) -> None:
    """DVC would run the stages that import a changed module (and what follows, if their results then differ)."""
    path = reproduced.root / "src" / "resnet50_pipeline" / module
    before = path.read_bytes()
    path.write_bytes(before + b"\n# changed\n")
    try:
        assert reproduced.repro("--dry") == stages
    finally:
        path.write_bytes(before)


def test_another_learning_rate_runs_training_and_what_follows(reproduced: Clone) -> None:
    """A changed learning rate leaves data and lists alone, and a new model is trained, evaluated and registered."""
    lock = reproduced.root / "dvc.lock"
    before = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    reproduced.edit_parameters("parameters_training.yml", {"training": {"lr": {"learning_rate": 0.0123}}})
    assert reproduced.repro() == ["training", "evaluation", "model_registration"]
    after = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    for stage in ("sample_data", "data_validation", "data_preparation"):
        assert after[stage] == before[stage]
    assert "learning_rate: 0.0123" in (
        reproduced.root / "data" / "sample" / "05_model_input" / "training_config.yaml"
    ).read_text(encoding="utf-8")
