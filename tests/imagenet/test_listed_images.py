"""Lists outside the dataset may refer to images anywhere in it, and `classes.txt` names the classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.layout import count_classes, find_dataset, read_lists, require_test_list
from resnet50_pipeline.imagenet.lists.class_file import ListedClass, read_class_file, render_class_file
from resnet50_pipeline.parameters import DatasetParameters


@pytest.fixture
def lists(tmp_path) -> Path:
    """A folder with lists for images in one folder, and three classes."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "train_list.txt").write_text("jpg/a b.jpg\t2\njpg/c.jpg\t0\ntop.jpg\t1\n")
    (folder / "val_list.txt").write_text("jpg/d.jpg 1\n")
    (folder / "classes.txt").write_text("rose\ntulip\nn01\tgoldfish, Carassius auratus\n")
    return folder


def test_paths_are_unchanged(tmp_path, lists):
    """No prefix is added to the paths, and the number of classes comes from the lists."""
    dataset = DatasetParameters(lists=lists)
    read = read_lists(find_dataset(tmp_path, dataset), None)
    assert list(read["train"].entries.paths) == ["jpg/a b.jpg", "jpg/c.jpg", "top.jpg"]
    assert count_classes(prefixed.entries for prefixed in read.values()) == 3
    (lists / "val_list.txt").write_text("jpg/d.jpg 3\n")
    with pytest.raises(ListFileError, match=r"val_list\.txt:1.*0\.\.2"):
        read_lists(find_dataset(tmp_path, dataset), None)


def test_missing_files_are_named(tmp_path, lists):
    """All missing parts are reported in one error. A missing test list is reported only if it is required."""
    dataset = DatasetParameters(lists=lists)
    with pytest.raises(DatasetNotFoundError, match="test_list"):
        require_test_list(tmp_path, dataset)
    (lists / "test_list.txt").write_text("jpg/e.jpg 1\n")
    assert require_test_list(tmp_path, dataset) == lists / "test_list.txt"
    (lists / "val_list.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"(?s)nowhere.*val_list\.txt.*kedro adopt"):
        find_dataset(tmp_path / "nowhere", dataset)


def test_class_files(tmp_path, lists):
    """A class file survives a round trip. Blank and repeated lines are reported with their line numbers."""
    path = lists / "classes.txt"
    classes = read_class_file(path)
    assert classes[0] == ListedClass("rose", "rose")
    assert classes[2] == ListedClass("n01", "goldfish, Carassius auratus")
    assert render_class_file(classes) == path.read_text()
    path.write_text("a\n\nb\na\n")
    with pytest.raises(ListFileError) as raised:
        read_class_file(path)
    assert [problem.split(": ")[0] for problem in raised.value.problems] == [f"{path}:2", f"{path}:4"]


def test_lists_exclude_other_sources(lists):
    """The lists name every image, so archives and ground truth files cannot be added to them."""
    with pytest.raises(ValueError, match="val_archive"):
        DatasetParameters(lists=lists, val_archive=Path("val.tar"))
