"""Tests the errors about damaged checkpoint sets, and about folders that are not checkpoint sets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from resnet50_pipeline.checkpoint_set import read_state
from resnet50_pipeline.exceptions import CheckpointError

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SOURCE = Path(__file__).parents[2] / "src"
ADVISES_DELETING = re.compile(r"\bdelete\b|\brm \b|\bempty (it|this|the|them)\b", re.IGNORECASE)
# Exceptions: whitespace in lists, and files that this project or DVC wrote.
ALLOWED = (
    "is a blank line between entries → delete it",
    "starts or ends with a space → delete it",
    "Delete damaged files from the cache, so that DVC fetches or writes them again.",
    "rm .dvc/tmp/rwlock",
)


def test_folder_that_is_not_a_set_is_named(tmp_path: Path):
    """If a data folder or an exported model is used as a checkpoint set, the error identifies only that folder."""
    data = tmp_path / "raw" / "digits"
    data.mkdir(parents=True)
    with pytest.raises(CheckpointError) as caught:
        read_state(data)
    assert str(data) in str(caught.value)
    assert f"{data.parent} " not in str(caught.value)


def test_relative_path_of_one_component_is_a_checkpoint_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative path with one component, such as `evaluation.model=digits`, is rejected if it is not a set."""
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="digits"):
        read_state(Path("digits"))


@pytest.mark.parametrize("names", [["epoch-0002"], ["epoch-0001", "epoch-0002"]])
def test_damaged_set_error_suggests_previous_set_or_new_start(tmp_path: Path, names: list[str]):
    """The error suggests moving only the damaged set or, if there is no other set, starting from scratch."""
    for name in names:
        (tmp_path / "training" / "checkpoints" / name).mkdir(parents=True)
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path / "training" / "checkpoints" / "epoch-0002")
    assert ("epoch-0001" in str(caught.value)) == ("epoch-0001" in names)
    assert ("training.resume=false" in str(caught.value)) == ("epoch-0001" not in names)


def test_damaged_copy_of_a_set_mentions_no_other_set(tmp_path: Path):
    """The error about a damaged copy outside its training folder does not mention any other set."""
    copy = tmp_path / "models" / "resnet50"
    copy.mkdir(parents=True)
    (copy / "MANIFEST.json").write_text("{")
    with pytest.raises(CheckpointError) as caught:
        read_state(copy)
    assert str(copy / "MANIFEST.json") in str(caught.value)
    assert "epoch-" not in str(caught.value)


def test_no_message_advises_deleting_files():
    """No message advises deleting files, because the project cannot know who wrote them."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
        found += [
            f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value not in docstrings
            and ADVISES_DELETING.search(node.value)
            and not node.value.startswith(ALLOWED)
        ]
    assert found == []
