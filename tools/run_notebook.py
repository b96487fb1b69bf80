"""Executes a notebook in this environment, from the project's folder: `run_notebook.py notebooks/explore.ipynb OUT`.

The notebook itself stays without output; a cell that fails ends it with the cell's traceback.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

CELL_SECONDS = 600


def main() -> None:
    """Execute a notebook and write it with its output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("executed", type=Path, help="where it is written with its output")
    options = parser.parse_args()
    notebook = nbformat.read(options.notebook, as_version=4)
    folder = {"metadata": {"path": str(Path.cwd())}}
    # Through files and not ports: nobody else on this machine can talk to the kernel.
    files = Config({"KernelManager": {"transport": "ipc"}})
    NotebookClient(notebook, kernel_name="python3", timeout=CELL_SECONDS, resources=folder, config=files).execute()
    options.executed.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, options.executed)
    print(options.executed)


if __name__ == "__main__":
    main()
