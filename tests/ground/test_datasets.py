"""The catalog's datasets save whole results and say what is missing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, TextFileDataset
from resnet50_pipeline.exceptions import DatasetNotFoundError


def test_text_is_saved_byte_for_byte_and_loads_as_its_path(tmp_path: Path):
    """Lists reach the ranks as the very bytes that the node returned."""
    dataset = TextFileDataset(filepath=str(tmp_path / "deep" / "train_list.txt"))
    dataset.save("train/ä.JPEG 0\n")
    assert dataset.load() == tmp_path / "deep" / "train_list.txt"
    assert dataset.load().read_bytes() == "train/ä.JPEG 0\n".encode()


def test_json_and_parquet_round_trip(tmp_path: Path):
    """Objects and tables come back as they were."""
    json_dataset = JSONDataset(filepath=str(tmp_path / "metrics.json"))
    json_dataset.save({"top1": 0.5, "name": "Kröte"})
    assert json_dataset.load() == {"top1": 0.5, "name": "Kröte"}
    table = pd.DataFrame({"path": ["a"], "top5_ids": [[1, 2]]})
    parquet = ParquetDataset(filepath=str(tmp_path / "predictions.parquet"))
    parquet.save(table)
    assert parquet.load()["top5_ids"][0].tolist() == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "predictions.parquet"]


def test_a_table_loads_the_columns_that_the_catalog_names(tmp_path: Path):
    """Others stay on the disk; without names, all are loaded."""
    path = str(tmp_path / "table.parquet")
    ParquetDataset(filepath=path).save(pd.DataFrame({"a": [1], "b": [2], "c": [3]}))
    assert list(ParquetDataset(filepath=path, columns=["c", "a"]).load()) == ["c", "a"]
    assert list(ParquetDataset(filepath=path).load()) == ["a", "b", "c"]


def test_table_that_cannot_be_saved_leaves_the_old_one(tmp_path: Path):
    """A failing save leaves the file of before and no temporary one."""
    dataset = ParquetDataset(filepath=str(tmp_path / "table.parquet"))
    dataset.save(pd.DataFrame({"a": [1]}))
    with pytest.raises(DatasetError):
        dataset.save(pd.DataFrame({"a": [1, "two", object()]}))
    assert dataset.load()["a"].tolist() == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_directory_takes_over_a_staged_one_and_accepts_its_own(tmp_path: Path):
    """A staged folder moves into place; one written in place stays as it is."""
    dataset = DirectoryDataset(filepath=str(tmp_path / "plots"))
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "a.png").touch()
    dataset.save(staged)
    dataset.save(tmp_path / "plots")
    assert not staged.exists()
    assert [path.name for path in dataset.load().iterdir()] == ["a.png"]


@pytest.mark.parametrize("kind", [TextFileDataset, JSONDataset, ParquetDataset, DirectoryDataset])
def test_missing_result_names_its_path(kind: type, tmp_path: Path):
    """Loading what was never written says which file and what to run."""
    dataset = kind(filepath=str(tmp_path / "nothing"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="nothing does not exist") as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, DatasetNotFoundError)
