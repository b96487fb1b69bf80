"""Writes a report of all problems with a list file, because the error message shows only a few of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ListFileError
from resnet50_pipeline.files import write_text

FILE_NAME = "list_problems.txt"


class FullListHooks:
    """Writes the report next to the Data Docs before the command prints the error."""

    @hook_impl
    def on_node_error(self, error: Exception, catalog: CatalogProtocol[Any, Any]) -> None:
        """If the message does not show all problems, write all of them to a file, and add its path to the message."""
        # The Data Docs do not include these problems, because the run stops before they are built.
        if isinstance(error, ListFileError) and len(error.problems) > MAX_PROBLEMS_SHOWN and "data_docs" in catalog:
            path = Path(catalog["data_docs"].filepath).parent / FILE_NAME
            write_text(path, "".join(problem + "\n" for problem in error.problems))
            error.name_full_list(path)
