"""Executes a notebook in the project folder: `run_notebook.py notebooks/explore.ipynb OUT`.

Writes the executed notebook to OUT and leaves the original unchanged. If a cell fails, the program stops with its
traceback.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

CELL_SECONDS = 600


def main() -> None:
    """Execute a notebook and write the result, including its outputs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("executed", type=Path, help="path to write the executed notebook to")
    options = parser.parse_args()
    notebook = nbformat.read(options.notebook, as_version=4)
    folder = {"metadata": {"path": str(Path.cwd())}}
    # Use sockets in the file system instead of ports, to which other users of the machine could connect.
    files = Config({"KernelManager": {"transport": "ipc"}})
    with tempfile.TemporaryDirectory() as history:
        os.environ["IPYTHONDIR"] = history  # otherwise, the kernel would write to ~/.ipython
        NotebookClient(notebook, kernel_name="python3", timeout=CELL_SECONDS, resources=folder, config=files).execute()
    options.executed.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, options.executed)
    print(options.executed)


if __name__ == "__main__":
    main()
