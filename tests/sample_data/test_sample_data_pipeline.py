"""Kedro runs the sample_data stage."""

import re
from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from resnet50_pipeline.datasets import DirectoryDataset, PathDataset
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.parameters import SampleDataParameters
from resnet50_pipeline.pipelines.sample_data import create_pipeline


def run(root: Path, train_images_per_class: int = 3) -> None:
    """Run the pipeline with `root` as the dataset folder."""
    sample_data = SampleDataParameters(train_images_per_class=train_images_per_class, val_images_per_class=2)
    catalog = DataCatalog(
        {
            "params:sample_data": MemoryDataset(sample_data),
            "dataset_folder": PathDataset(str(root)),
            "dataset_root": DirectoryDataset(str(root)),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)


def test_the_stage_writes_a_dataset_in_the_layout_of_imagenet(tmp_path: Path) -> None:
    """The sample is at dataset.root, all users can read it, and a second run with a different size replaces it."""
    root = tmp_path / "01_raw" / "digits"
    run(root)
    assert len(read_lists(find_layout(root), class_num=10)["train"].entries) == 30
    assert root.stat().st_mode & 0o777 == 0o755
    run(root, train_images_per_class=1)
    assert len(read_lists(find_layout(root), class_num=10)["train"].entries) == 10
    assert len(list(root.rglob("*.JPEG"))) == 30
    assert list(root.parent.iterdir()) == [root]


def test_the_users_files_are_never_replaced(tmp_path: Path) -> None:
    """If dataset.root contains the user's own files, the stage raises an error and the files are kept."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.JPEG").write_bytes(b"mine")
    with pytest.raises(ParameterError, match=re.escape(str(tmp_path))):
        run(tmp_path)
    assert (tmp_path / "train" / "a.JPEG").read_bytes() == b"mine"


def test_files_added_to_the_sample_are_kept(tmp_path: Path) -> None:
    """If the user adds files to the sample, the next run stops and lists the files, which are kept."""
    root = tmp_path / "digits"
    run(root)
    (root / "train" / "mine").mkdir()
    (root / "train" / "mine" / "a.JPEG").write_bytes(b"mine")
    (root / "my_labels.csv").write_text("a,1\n")
    with pytest.raises(ParameterError, match=r"train/mine/a\.JPEG") as raised:
        run(root, train_images_per_class=1)
    assert "my_labels.csv" in str(raised.value)
    assert (root / "train" / "mine" / "a.JPEG").read_bytes() == b"mine"
    assert (root / "my_labels.csv").read_text() == "a,1\n"
