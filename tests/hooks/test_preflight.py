"""What is refused before anything heavy is imported, and with which words."""

from __future__ import annotations

import pytest

from resnet50_pipeline import parameters
from resnet50_pipeline.exceptions import DatasetNotFoundError, MissingLibraryError, ParameterError
from resnet50_pipeline.hooks import preflight
from resnet50_pipeline.hooks.preflight import (
    PARAMETER_GROUPS,
    require_dataset,
    require_known_groups,
    require_system_libraries,
)


def test_a_mistyped_group_gets_the_nearest_name():
    """Kedro passes over a group that no node reads, so a mistyped one would be a run with other parameters."""
    with pytest.raises(ParameterError, match="'trainin'; did you mean training"):
        require_known_groups(["dataset", "trainin"])


def test_every_group_has_its_model_and_every_model_its_group():
    """The known groups are those that parameters/ describes."""
    described = {
        model.__doc__.split("`")[1]
        for model in vars(parameters).values()
        if isinstance(model, type)
        and issubclass(model, parameters.ParameterModel)
        and model.__name__.endswith("Parameters")
    }
    assert set(PARAMETER_GROUPS) == {group for group in described if "." not in group}


def test_missing_libraries_are_named_with_the_commands_that_install_them(monkeypatch):
    """A machine without OpenCV's libraries is told which, and how to install them on both families of systems."""
    monkeypatch.setattr(preflight, "SYSTEM_LIBRARIES", {"libnosuch.so.9": ("libnosuch9", "nosuch-libs")})
    with pytest.raises(MissingLibraryError) as caught:
        require_system_libraries()
    assert "OpenCV needs libnosuch.so.9" in str(caught.value)
    assert "apt-get install -y libnosuch9" in str(caught.value)
    assert "dnf install -y nosuch-libs" in str(caught.value)


def test_this_machine_has_what_opencv_needs():
    """Where the tests run, the check passes."""
    require_system_libraries()


def test_a_dataset_that_is_not_there_is_named_with_the_layout_and_the_setting(tmp_path):
    """The message says what was looked for, how it should look, and which parameter points to it."""
    with pytest.raises(DatasetNotFoundError) as caught:
        require_dataset({"dataset": {"root": str(tmp_path / "nowhere"), "class_num": 10}})
    for part in (str(tmp_path / "nowhere"), "/train/", "train_list.txt", "--params dataset.root="):
        assert part in str(caught.value)


def test_a_missing_part_is_named(tmp_path):
    """A folder without its list file is an error that names the file."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    (tmp_path / "train_list.txt").touch()
    with pytest.raises(DatasetNotFoundError, match=r"val_list\.txt is missing"):
        require_dataset({"dataset": {"root": str(tmp_path), "class_num": 10}})


def test_a_dataset_group_that_breaks_its_rules_is_a_parameter_error():
    """What Kedro has not checked yet is checked here, and named by its field."""
    with pytest.raises(ParameterError, match=r"(?s)dataset: .*class_num"):
        require_dataset({"dataset": {"root": "/data"}})
