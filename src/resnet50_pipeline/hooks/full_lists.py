"""Reports all problems in a list file next to the Data Docs, because the error message shows only the first few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ListFileError
from resnet50_pipeline.files import write_text

FILE_NAME = "list_problems.txt"


class FullListHooks:
    """Writes a report of all problems in a list file before the command prints the error."""

    @hook_impl
    def on_node_error(self, error: Exception, catalog: CatalogProtocol[Any, Any]) -> None:
        """If the message cannot show all problems, write them to a file and add the file's path to the message."""
        # The Data Docs cannot show these problems, because the run stops before the Data Docs are built.
        if isinstance(error, ListFileError) and len(error.problems) > MAX_PROBLEMS_SHOWN and "data_docs" in catalog:
            path = Path(catalog["data_docs"].filepath).parent / FILE_NAME
            write_text(path, "".join(problem + "\n" for problem in error.problems))
            error.name_full_list(path)
