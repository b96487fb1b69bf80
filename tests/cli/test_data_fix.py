"""`kedro data-fix` records who changed which lines and why, and can undo the changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kedro.framework.project import configure_project

from resnet50_pipeline.commands.data.data_fix import _apply, data_fix
from resnet50_pipeline.commands.folds import require_no_moves
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.imagenet.lists.fixes import Fix, write_fixes
from resnet50_pipeline.imagenet.lists.patches import read_patches
from resnet50_pipeline.parameters import DatasetParameters

REPOSITORY = Path(__file__).parents[2]
configure_project("resnet50_pipeline")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a Git repository with this project's configuration and the user Ada."""
    root = tmp_path / "project"
    shutil.copytree(REPOSITORY / "conf", root / "conf", ignore=shutil.ignore_patterns("local"))
    (root / "conf" / "local").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    for command in (["init", "-q"], ["config", "user.name", "Ada"], ["config", "user.email", "ada@example.org"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    monkeypatch.chdir(root)
    return root


def run(digits: Path, *arguments: str) -> Result:
    """Run `kedro data-fix` for the digits in this process."""
    options = ["--params", f"dataset.root={digits}"]
    return CliRunner().invoke(data_fix, [*arguments, *options], catch_exceptions=False)


def test_a_patch_is_written_listed_and_undone(project: Path, digits: Path):
    """A patch contains the Git user, the time, the reason and the rows. --undo removes the last patch."""
    path = next((digits / "train" / "n00000003").iterdir()).relative_to(digits).as_posix()
    (project / "fixes.csv").write_text(f"path,action,label,reason\n{path},relabel,eight,looks like eight\n")
    patches = project / "data" / "sample" / "01_raw" / "patches"
    result = run(digits, "fixes.csv", "--reason", "checked by hand")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        ["data/sample/01_raw/patches/0001.json: 1 image relabeled", "train on the changed lists with: kedro run"],
    )
    content = json.loads((patches / "0001.json").read_text())
    assert content.pop("at").endswith("Z")
    row = {"path": path, "action": "relabel", "split": "train", "label": 3, "new_label": 8}
    assert content == {
        "by": "Ada <ada@example.org>",
        "reason": "checked by hand",
        "source": "fixes.csv",
        "kept": 0,
        "rows": [{**row, "reason": "looks like eight"}],
        "classes": {"n00000003": 3, "n00000008": 8},
    }
    (project / "fixes.csv").write_text(f"path,action,label,reason\n{path},drop,,\n")
    assert run(digits, "fixes.csv").exit_code == 0
    listed = run(digits).stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in listed] == ["1 image relabeled", "1 image dropped"]
    assert "Ada <ada@example.org>, checked by hand" in listed[0]
    assert run(digits, "--undo").stdout == "removed data/sample/01_raw/patches/0002.json: 1 image dropped\n"
    assert [one.name for one in patches.iterdir()] == ["0001.json"]
    assert run(digits, "--undo").exit_code == 0
    nothing_left = run(digits, "--undo")
    assert (nothing_left.exit_code, "nothing to undo" in nothing_left.stderr) == (1, True)


def test_a_list_that_only_keeps_images_writes_no_patch(project: Path, digits: Path):
    """If every image is kept, there is nothing to record."""
    path = next((digits / "val" / "n00000003").iterdir()).relative_to(digits).as_posix()
    (project / "fixes.csv").write_text(f"path,action,label,reason\n{path},keep,,\n")
    result = run(digits, "fixes.csv")
    assert (result.exit_code, result.stdout) == (0, "nothing to change: 1 image kept\n")
    assert not (project / "data").exists()


def test_an_invalid_list_writes_no_patch(project: Path, digits: Path):
    """The command exits with code 1 and names the row."""
    (project / "fixes.csv").write_text("path,action,label,reason\nnone.JPEG,drop,,\n")
    result = run(digits, "fixes.csv")
    assert (result.exit_code, "fixes.csv, row 1: 'none.JPEG' is not in any list" in result.stderr) == (1, True)
    assert not (project / "data").exists()


def test_concurrent_commands_keep_every_patch(project: Path, digits: Path):
    """Commands that run at the same time each write a separate patch."""
    parameters = DatasetParameters(class_num=10, patches=project / "patches")
    names = [path.relative_to(digits).as_posix() for path in sorted((digits / "train").glob("*/*"))[:4]]
    start = threading.Barrier(len(names))

    def drop(number: int) -> None:
        file = project / f"{number}.csv"
        write_fixes(file, [Fix(names[number], "drop")])
        start.wait()
        _apply(file, digits, parameters, "", project)

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(drop, range(len(names))))
    patches = read_patches(parameters.patches)
    assert [patch.file.name for patch in patches] == ["0001.json", "0002.json", "0003.json", "0004.json"]
    assert sorted(row.path for patch in patches for row in patch.content.rows) == names


def test_folds_refuse_patches_that_move_images(project: Path, digits: Path):
    """`kedro folds` rejects patches that move images, because each fold divides the images differently."""
    path = next((digits / "val" / "n00000003").iterdir()).relative_to(digits).as_posix()
    patches = project / "data" / "sample" / "01_raw" / "patches"
    for action in ("drop", "move"):
        (project / "fixes.csv").write_text(f"path,action,label,reason\n{path},{action},,\n")
        assert run(digits, "fixes.csv").exit_code == 0
        if action == "drop":
            require_no_moves(patches)
            assert run(digits, "--undo").exit_code == 0
    with pytest.raises(ParameterError, match=r"0001\.json: moves images"):
        require_no_moves(patches)
