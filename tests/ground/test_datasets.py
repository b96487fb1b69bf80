"""The catalog's datasets save complete results and report missing ones by path."""

from __future__ import annotations

import base64
import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from resnet50_pipeline.commands.errors import find_expected_error
from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, TextFileDataset
from resnet50_pipeline.exceptions import DatasetNotFoundError, ResultNotSavedError


def test_text_is_saved_unchanged_and_loads_as_its_path(tmp_path: Path):
    """The ranks read lists exactly as they were saved, byte for byte."""
    dataset = TextFileDataset(filepath=str(tmp_path / "deep" / "train_list.txt"))
    dataset.save("train/ä.JPEG 0\n")
    assert dataset.load() == tmp_path / "deep" / "train_list.txt"
    assert dataset.load().read_bytes() == "train/ä.JPEG 0\n".encode()


def test_json_and_parquet_round_trip(tmp_path: Path):
    """Objects and tables are loaded exactly as they were saved."""
    json_dataset = JSONDataset(filepath=str(tmp_path / "metrics.json"))
    json_dataset.save({"top1": 0.5, "name": "Kröte"})
    assert json_dataset.load() == {"top1": 0.5, "name": "Kröte"}
    table = pd.DataFrame({"path": ["a"], "top5_ids": [[1, 2]]})
    parquet = ParquetDataset(filepath=str(tmp_path / "predictions.parquet"))
    parquet.save(table)
    assert parquet.load()["top5_ids"][0].tolist() == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "predictions.parquet"]


def test_table_loads_only_columns_in_catalog(tmp_path: Path):
    """Only the columns named in the catalog are loaded; if none are named, all are loaded."""
    path = str(tmp_path / "table.parquet")
    ParquetDataset(filepath=path).save(pd.DataFrame({"a": [1], "b": [2], "c": [3]}))
    assert list(ParquetDataset(filepath=path, columns=["c", "a"]).load()) == ["c", "a"]
    assert list(ParquetDataset(filepath=path).load()) == ["a", "b", "c"]


def test_failed_save_keeps_old_table(tmp_path: Path):
    """A failed save keeps the old file and leaves no temporary file behind."""
    dataset = ParquetDataset(filepath=str(tmp_path / "table.parquet"))
    dataset.save(pd.DataFrame({"a": [1]}))
    with pytest.raises(DatasetError):
        dataset.save(pd.DataFrame({"a": [1, "two", object()]}))
    assert dataset.load()["a"].tolist() == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_directory_moves_staged_folder_and_keeps_folder_in_place(tmp_path: Path):
    """A staged folder is moved to the path of the dataset, and a folder written there directly is kept."""
    dataset = DirectoryDataset(filepath=str(tmp_path / "plots"))
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "a.png").touch()
    dataset.save(staged)
    dataset.save(tmp_path / "plots")
    assert not staged.exists()
    assert [path.name for path in dataset.load().iterdir()] == ["a.png"]


@pytest.mark.parametrize("kind", [TextFileDataset, JSONDataset, ParquetDataset, DirectoryDataset])
def test_missing_result_error_names_path_and_command(kind: type, tmp_path: Path):
    """The error about a missing result includes the file and the command to run."""
    dataset = kind(filepath=str(tmp_path / "nothing"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="nothing does not exist") as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, DatasetNotFoundError)


@pytest.mark.parametrize("kind", [TextFileDataset, JSONDataset, ParquetDataset, DirectoryDataset])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_result_that_cannot_be_saved_is_one_error(
    kind: type, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk, missing permissions and a read-only file system cause a single error with the path of the result."""
    staged = tmp_path / "staged"
    staged.mkdir()
    data = {
        TextFileDataset: "text",
        JSONDataset: {},
        ParquetDataset: pd.DataFrame({"a": [1]}),
        DirectoryDataset: staged,
    }[kind]

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    path = tmp_path / "results" / "name"
    with pytest.raises(DatasetError) as raised:
        kind(filepath=str(path)).save(data)
    error = find_expected_error(raised.value)
    assert isinstance(error, ResultNotSavedError)
    assert str(error).startswith(f"{path}: ")
    assert os.strerror(number) in str(error)
    assert list(path.parent.iterdir()) == []


def test_kedro_viz_shows_the_beginning_of_tables_and_lists(tmp_path):
    """A preview contains the first 20 rows of a table, the first 20 entries of a list, or one image from a folder."""
    table = ParquetDataset(str(tmp_path / "table.parquet"))
    table.save(pd.DataFrame({"label": range(50), "name": "x"}))
    preview = table.preview()
    assert (preview["columns"], len(preview["data"]), preview["data"][19]) == (["label", "name"], 20, [19, "x"])
    report = JSONDataset(str(tmp_path / "report.json"))
    report.save({"top1": 0.5, "classes": [{"problems": list(range(50))}]})
    assert json.loads(report.preview()) == {"top1": 0.5, "classes": [{"problems": list(range(20))}]}
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "curves.png").write_bytes(b"PNG")
    assert base64.b64decode(DirectoryDataset(str(tmp_path / "plots")).preview("curves.png")) == b"PNG"


def test_results_that_do_not_exist_have_an_empty_preview(tmp_path):
    """Before the first run, previews are empty, without errors."""
    assert ParquetDataset(str(tmp_path / "table.parquet")).preview() == {}
    assert JSONDataset(str(tmp_path / "report.json")).preview() == ""
    assert DirectoryDataset(str(tmp_path / "plots")).preview("curves.png") == ""
