"""`dvc repro` runs every stage in a clean clone, then none, and after a change only the affected ones."""

from __future__ import annotations

import pytest
import yaml

from dvc_clone import Clone
from resnet50_pipeline.pipeline_registry import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def reproduced(published: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with all results; tests may change it."""
    clone = published.clone_to(tmp_path_factory.mktemp("clones") / "clone")
    clone.run("dvc", "pull", "dvc.yaml")
    return clone


def test_a_first_repro_writes_every_out(published: Clone) -> None:
    """The first repro writes every out and records it in dvc.lock; git sees no change except in the lock file."""
    stages = published.read_yaml("dvc.yaml")["stages"]
    outs = {
        out if isinstance(out, str) else next(iter(out))
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    }
    locked = published.read_yaml("dvc.lock")["stages"]
    assert {out["path"] for stage in locked.values() for out in stage["outs"]} == outs
    assert [out for out in outs if not (published.root / out).exists()] == []
    assert published.untracked() == set()


def test_a_second_repro_runs_nothing(published: Clone) -> None:
    """Files that a run leaves behind (logs, __pycache__, the MLflow database) do not count as changes."""
    assert published.repro() == []


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("imagenet/sample.py", list(STAGES)),
        ("expectations/suite.py", ["data_validation", "data_preparation"]),
        ("imaging/decode.py", ["data_validation", "data_preparation", "training", "evaluation", "model_registration"]),
        ("trainer/optimization/optimizer.py", ["training", "evaluation", "model_registration"]),
        ("reporting/metrics.py", ["evaluation", "model_registration"]),
        ("serving/predictor.py", ["model_registration"]),
        ("exceptions.py", []),
    ],
)
def test_a_code_change_affects_the_stages_that_import_its_package(
    reproduced: Clone, module: str, stages: list[str]
) -> None:
    """If a module changes, DVC reruns the stages that depend on its package."""
    path = reproduced.root / "src" / "resnet50_pipeline" / module
    before = path.read_bytes()
    path.write_bytes(before + b"\n# changed\n")
    try:
        assert reproduced.repro("--dry") == stages
    finally:
        path.write_bytes(before)


def test_a_new_learning_rate_runs_training_and_the_later_stages(reproduced: Clone) -> None:
    """After the learning rate changes, a new model is trained, evaluated and registered, but no data stage runs."""
    lock = reproduced.root / "dvc.lock"
    before = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    reproduced.edit_parameters("parameters_training.yml", {"training": {"lr": {"learning_rate": 0.0123}}})
    assert reproduced.repro() == ["training", "evaluation", "model_registration"]
    after = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    for stage in ("sample_data", "data_validation", "data_preparation"):
        assert after[stage] == before[stage]
    assert "learning_rate: 0.0123" in (
        reproduced.root / "data" / "dvc" / "06_models" / "training" / "training_config.yaml"
    ).read_text(encoding="utf-8")
