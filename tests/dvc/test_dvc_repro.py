"""`dvc repro` in a clean clone does what `kedro run` does, then nothing, then only what a change asks for."""

from __future__ import annotations

import pytest
import yaml

from dvc_clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def reproduced(published: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with all results, to be changed."""
    clone = published.clone_to(tmp_path_factory.mktemp("clones") / "clone")
    clone.run("dvc", "pull", "dvc.yaml")
    return clone


def test_a_first_repro_writes_every_out(published: Clone) -> None:
    """Every stage runs, every out is there and in dvc.lock, and nothing of it all is left to git but the lock."""
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
    """Nothing that a run or Python leaves behind (logs, __pycache__, the MLflow database) counts as a change."""
    assert published.repro() == []


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
