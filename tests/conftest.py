"""Shared fixtures: small ImageNet-layout folders, and training parameters for them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from exported_model import exported_model  # noqa: F401 - shared fixtures
from probe_project import probe_project  # noqa: F401

# Imported by the fixtures that need them, because every test process imports this module.
if TYPE_CHECKING:
    from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Turn off all telemetry before a library is imported, for the tests and the programs that they start."""
    for switch, off in {
        "DO_NOT_TRACK": "true",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
    }.items():
        os.environ.setdefault(switch, off)
    # Write compiled modules, for the many processes that tests start; see the Makefile.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # `make test ARGS=…` passes ARGS on to each `make` below it, including those that tests start.
    for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"):
        os.environ.pop(name, None)
    # A shell that starts the tests in the background, or `nohup`, makes them and their children ignore these signals.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Examples may take any amount of time, because a busy machine must not make a test fail.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


@pytest.fixture(scope="session")
def striped_dataset(tmp_path_factory) -> Path:
    """A folder in ImageNet's layout with 3 classes of stripes, 12 train and 7 val images each, and prefixed lists."""
    from striped_dataset import write_striped_dataset

    return write_striped_dataset(tmp_path_factory.mktemp("striped"))


@pytest.fixture
def dataset_parameters(striped_dataset: Path) -> DatasetParameters:
    """`params:dataset` for the striped folder."""
    from placed import PlacedDataset
    from striped_dataset import CLASSES

    return PlacedDataset(root=striped_dataset, class_num=CLASSES)


@pytest.fixture(scope="session")
def make_training_parameters() -> Callable[..., TrainingParameters]:
    """Return a function that builds `params:training` for a short run. Keywords override values."""
    from striped_dataset import build_training_parameters

    return build_training_parameters


@pytest.fixture
def training_parameters(make_training_parameters, tmp_path: Path) -> Callable[..., TrainingParameters]:
    """Parameters of a short training run in the test's temporary folder."""

    def build(output_dir: Path = tmp_path / "training", **changes: Any) -> TrainingParameters:
        return make_training_parameters(output_dir, **changes)

    return build


@pytest.fixture(scope="session")
def _written_digits(tmp_path_factory) -> Path:
    from resnet50_pipeline.imagenet.sample import write_sample

    folder = tmp_path_factory.mktemp("digits") / "digits"
    write_sample(folder, train_images_per_class=4, val_images_per_class=2)
    return folder


@pytest.fixture
def digits(_written_digits: Path, tmp_path: Path) -> Path:
    """A copy of a small sample: 10 digits, 4 train and 2 val images each, unprefixed lists."""
    return shutil.copytree(_written_digits, tmp_path / "digits")


@pytest.fixture(scope="session")
def kedro_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose environment `test` writes to the copy, for running `kedro run` itself."""
    from mlflow_stores import make_database

    project = tmp_path_factory.mktemp("project")
    shutil.copytree(REPOSITORY / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
    (project / "conf" / "local").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", project)
    shutil.copytree(REPOSITORY / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (project / "data" / "test").mkdir(parents=True)
    make_database(project / "data" / "test" / "mlflow.db")
    return project
