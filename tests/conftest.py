"""Fixtures that several rooms share: small ImageNet-layout folders and training parameters for them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exported_model import exported_model  # noqa: F401 - fixtures that several rooms share
from faulty_dataset import faulty, kedro_project  # noqa: F401
from probe_project import probe_project  # noqa: F401
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from striped_dataset import CLASSES, build_training_parameters, write_striped_dataset
from stub_ranks import canary, stub_launch  # noqa: F401


def pytest_configure() -> None:
    """Keep every library of the tests, and of what they start, from reporting home: before any of them is imported."""
    for switch, off in {
        "DO_NOT_TRACK": "true",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
    }.items():
        os.environ.setdefault(switch, off)
    # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests last, each kind in the order in which it was collected.

    Where several processes share the tests (see the Makefile) a file's tests stay together, its quick ones first.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def striped_dataset(tmp_path_factory) -> Path:
    """A folder in ImageNet's layout: 3 classes of stripes, 12 train and 7 val images each, lists already prefixed."""
    return write_striped_dataset(tmp_path_factory.mktemp("striped"))


@pytest.fixture
def dataset_parameters(striped_dataset: Path) -> DatasetParameters:
    """`params:dataset` of the striped folder."""
    return DatasetParameters(root=striped_dataset, class_num=CLASSES)


@pytest.fixture(scope="session")
def make_training_parameters() -> Callable[..., TrainingParameters]:
    """A function from an output folder to `params:training` of a run of seconds; further arguments replace values."""
    return build_training_parameters


@pytest.fixture
def training_parameters(make_training_parameters, tmp_path: Path) -> Callable[..., TrainingParameters]:
    """`make_training_parameters` for a folder of the test's own, unless it names another."""

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
    """A copy of its own of the sample: 10 digits, 4 train and 2 val images each, lists as ImageNet's, unprefixed."""
    return shutil.copytree(_written_digits, tmp_path / "digits")
