"""Tests the errors about damaged checkpoint sets, and about folders that are not checkpoint sets."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from resnet50_pipeline.checkpoint_set import prune_checkpoints, read_state
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.training_dir import checkpoint_path, checkpoint_paths, newest_checkpoint

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SOURCE = Path(__file__).parents[2] / "src"
ADVISES_DELETING = re.compile(r"\bdelete\b|\brm \b|\bempty (it|this|the|them)\b", re.IGNORECASE)
# Exceptions: whitespace in lists, and files written by this project or DVC.
ALLOWED = (
    ": blank line → delete the line",
    "is a blank line between entries → delete the line",
    "starts or ends with a space → delete the space",
    "Delete damaged files from the cache",
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


def write_state(training_dir: Path, epoch: int, step: int, step_in_epoch: int, steps_per_epoch: int) -> Path:
    """Write the state of a set that was saved within the epoch after `epoch`."""
    path = checkpoint_path(training_dir, epoch, step)
    path.mkdir(parents=True)
    state = {"epoch": epoch, "step_in_epoch": step_in_epoch, "steps_per_epoch": steps_per_epoch}
    (path / "state.json").write_text(json.dumps(state))
    return path


def test_later_set_with_lower_step_number_is_newer(tmp_path: Path):
    """A run that resumes with twice the images per step has half the step numbers, and continues from its own sets."""
    checkpoint_path(tmp_path, 3).mkdir(parents=True)
    before = [write_state(tmp_path, 3, step, step - 300, 100) for step in (340, 350)]
    after = write_state(tmp_path, 3, 180, 30, 50)
    assert checkpoint_paths(tmp_path) == [checkpoint_path(tmp_path, 3), *before, after]
    assert newest_checkpoint(tmp_path) == after
    with pytest.raises(CheckpointError, match=r"the previous set is epoch-0003-step-0000000350"):
        read_state(after)
    prune_checkpoints(tmp_path, 2, 0)
    assert checkpoint_paths(tmp_path) == [before[1], after]
    checkpoint_path(tmp_path, 4).mkdir()
    assert newest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 4)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_names_order_sets_with_a_damaged_state(tmp_path: Path, content: str):
    """If a state cannot be read, the set with the highest step counts as the newest, and its error is reported."""
    for step in (310, 320):
        write_state(tmp_path, 3, step, step - 300, 100)
    (checkpoint_path(tmp_path, 3, 320) / "state.json").write_text(content)
    assert newest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 3, 320)


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
    """No message advises deleting files, because the project cannot know who owns them."""
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
