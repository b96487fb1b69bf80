"""The stage sample_data, run by Kedro."""

from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from resnet50_pipeline.datasets import DirectoryDataset
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.parameters import DatasetParameters, SampleDataParameters
from resnet50_pipeline.pipelines.sample_data import create_pipeline


def run(root: Path, train_images_per_class: int = 3) -> None:
    """Run the pipeline with `root` as the dataset folder."""
    sample_data = SampleDataParameters(train_images_per_class=train_images_per_class, val_images_per_class=2)
    catalog = DataCatalog(
        {
            "params:sample_data": MemoryDataset(sample_data),
            "params:dataset": MemoryDataset(DatasetParameters(root=root, class_num=10)),
            "dataset_root": DirectoryDataset(str(root)),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)


def test_the_stage_leaves_a_folder_of_imagenets_layout(tmp_path: Path) -> None:
    """The sample lies at dataset.root, readable by all, and a second run with another size replaces it whole."""
    root = tmp_path / "01_raw" / "digits"
    run(root)
    assert len(read_lists(find_layout(root), class_num=10)["train"].entries) == 30
    assert root.stat().st_mode & 0o777 == 0o755
    run(root, train_images_per_class=1)
    assert len(read_lists(find_layout(root), class_num=10)["train"].entries) == 10
    assert len(list(root.rglob("*.JPEG"))) == 30
    assert list(root.parent.iterdir()) == [root]


def test_a_users_folder_is_never_replaced(tmp_path: Path) -> None:
    """Where dataset.root holds a user's files, the stage is refused and the files stay."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.JPEG").write_bytes(b"mine")
    with pytest.raises(ParameterError, match="which holds files that sample_data did not write"):
        run(tmp_path)
    assert (tmp_path / "train" / "a.JPEG").read_bytes() == b"mine"
