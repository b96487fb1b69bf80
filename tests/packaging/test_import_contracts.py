"""The code complies with every import contract in pyproject.toml, and each contract rejects a forbidden import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# (contract, {module file: forbidden line}). An indirect import needs two lines.
PLANTS: list[tuple[str, dict[str, str]]] = [
    ("rooms", {"imagenet/__init__.py": "import resnet50_pipeline.paddleclas"}),
    ("rooms", {"reporting/__init__.py": "import resnet50_pipeline.tracking"}),
    ("rooms", {"tracking/__init__.py": "import resnet50_pipeline.pipelines"}),
    ("rooms", {"pipelines/__init__.py": "import resnet50_pipeline.hooks"}),
    ("rooms", {"commands/run.py": "import resnet50_pipeline.hooks"}),
    ("rooms", {"common.py": "import json"}),
    ("no-circles", {"events.py": "import resnet50_pipeline.training_dir"}),
    ("imagenet", {"imagenet/lists/files.py": "import resnet50_pipeline.imagenet.layout"}),
    ("adoption", {"adoption/found.py": "import resnet50_pipeline.adoption.layouts"}),
    ("paddleclas", {"paddleclas/launch/command.py": "import resnet50_pipeline.paddleclas.train"}),
    ("tracking", {"tracking/store.py": "import resnet50_pipeline.tracking.runs"}),
    ("tracking-delivery", {"tracking/delivery/operations.py": "import resnet50_pipeline.tracking.delivery.outbox"}),
    ("trainer", {"trainer/ranks.py": "import resnet50_pipeline.trainer.training"}),
    ("trainer-data", {"trainer/data/dataset.py": "import resnet50_pipeline.trainer.data.loader"}),
    ("stages", {"pipelines/training/nodes.py": "import resnet50_pipeline.pipelines.evaluation"}),
    ("kedro", {"reporting/__init__.py": "import kedro.io"}),
    ("paddle", {"imaging/__init__.py": "import paddle"}),
    ("paddle", {"paddleclas/__init__.py": "from ppcls.arch import build_model"}),
    ("great_expectations", {"pipelines/data_validation/nodes.py": "import great_expectations"}),
    ("mlflow", {"hooks.py": "import mlflow"}),
    ("optuna", {"commands/sweep.py": "import optuna"}),
    ("control-plane", {"pipelines/training/nodes.py": "import resnet50_pipeline.trainer.network"}),
    (
        "compute-plane",
        {
            "trainer/__init__.py": "import resnet50_pipeline.imagenet.layout",
            "imagenet/layout.py": "def late():\n    import pandas",
        },
    ),
    ("compute-plane", {"imagenet/lists/files.py": "import pandas"}),
    ("serving", {"serving/__init__.py": "import resnet50_pipeline.trainer"}),
    ("serving", {"serving/__init__.py": "import mlflow"}),
    ("paddleclas-package", {"trainer/__init__.py": "import paddleclas"}),
]


def lint_imports(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run lint-imports on the package in `folder`."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-logo", "--no-cache", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def package_copy(tmp_path: Path) -> Path:
    """A copy of pyproject.toml and src/."""
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    shutil.copytree(PROJECT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tmp_path


def test_the_package_keeps_every_contract(package_copy: Path) -> None:
    """The source code complies with all import contracts."""
    result = lint_imports(package_copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(("contract", "plants"), PLANTS)
def test_a_planted_import_breaks_its_contract(package_copy: Path, contract: str, plants: dict[str, str]) -> None:
    """A forbidden import breaks its contract, whether it is direct or indirect."""
    for file, line in plants.items():
        path = package_copy / "src" / "resnet50_pipeline" / file
        with path.open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    result = lint_imports(package_copy, "--contract", contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "0 kept, 1 broken" in result.stdout


def test_every_contract_has_a_planted_import() -> None:
    """Every contract has a planted import, so every contract is known to have an effect."""
    configuration = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"] for contract in configuration["tool"]["importlinter"]["contracts"]}
    assert {contract for contract, _ in PLANTS} == contracts
