"""notebooks/explore.ipynb runs on the pipelines' results, and is committed in a form that has readable diffs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from command_blocks import PROJECT

NOTEBOOK = PROJECT / "notebooks" / "explore.ipynb"


def test_the_notebook_is_committed_without_output() -> None:
    """No cell has outputs or execution counts, cell ids are stable, and the file is formatted with ruff."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    assert len(notebook["cells"]) <= 20
    for number, cell in enumerate(notebook["cells"], start=1):
        assert cell["id"] == f"cell-{number:02d}"
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_jupyter_is_given_this_kernel(tmp_path: Path) -> None:
    """The documented command installs a Jupyter kernel that starts this environment's interpreter."""
    environment = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "ipykernel", "install", "--user", "--name", "resnet50-pipeline"]
    assert " ".join(command[1:]) in (PROJECT / "docs/notebook.md").read_text(encoding="utf-8")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (written,) = tmp_path.rglob("kernel.json")
    assert json.loads(written.read_text(encoding="utf-8"))["argv"][0] == sys.executable
