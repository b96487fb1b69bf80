"""notebooks/explore.ipynb runs on what the chain leaves, and is committed so that a diff shows what was changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_blocks import PROJECT
from documented_project import DocumentedProject

NOTEBOOK = PROJECT / "notebooks" / "explore.ipynb"


def test_the_notebook_is_committed_without_output() -> None:
    """No cell has output or a count, cells have names that stay, and the file is written as ruff leaves it."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    assert len(notebook["cells"]) <= 20
    for number, cell in enumerate(notebook["cells"], start=1):
        assert cell["id"] == f"cell-{number:02d}"
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_shows_what_the_chain_has_left(documented: DocumentedProject) -> None:
    """`make notebook` executes every cell, with neither error nor warning, and pictures, tables and runs are in it."""
    documented.run_chain_once()
    said = documented.run("make notebook")
    assert "Traceback" not in said
    assert "WARNING" not in said
    executed = nbformat.read(documented.root / "data/sample/08_reporting/explore.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert [_as_text(output) for output in outputs if output["output_type"] in ("stream", "error")] == []
    shown = [output["data"] for output in outputs]
    assert sum("image/png" in data for data in shown) == 6
    tables = [data["text/html"] for data in shown if "text/html" in data]
    (runs,) = [table for table in tables if "runName" in table]
    assert "FINISHED" in runs
    (gallery,) = [table for table in tables if "<figcaption>" in table]
    assert gallery.count('src="data:image/') == gallery.count("<figcaption>") == 12


def test_jupyter_is_given_this_kernel(tmp_path: Path) -> None:
    """The page's command for people who have Jupyter writes a kernel that starts this environment's interpreter."""
    environment = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "ipykernel", "install", "--user", "--name", "resnet50-pipeline"]
    assert " ".join(command[1:]) in (PROJECT / "docs/notebook.md").read_text(encoding="utf-8")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (written,) = tmp_path.rglob("kernel.json")
    assert json.loads(written.read_text(encoding="utf-8"))["argv"][0] == sys.executable


def _as_text(output: Any) -> str:
    return str(output.get("text") or output.get("evalue"))
