"""Keeps what an error cannot show: every problem of the list files, in a file beside the Data Docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ListFileError
from resnet50_pipeline.files import write_text

FILE_NAME = "list_problems.txt"


class FullListHooks:
    """Writes the problems of a list file before the command line prints the first of them."""

    @hook_impl
    def on_node_error(self, error: Exception, catalog: CatalogProtocol[Any, Any]) -> None:
        """Write all problems where the message has not room for them, and let it name the file."""
        # Of a list nothing is known yet when it cannot be read: there are no Data Docs that could hold this.
        if isinstance(error, ListFileError) and len(error.problems) > MAX_PROBLEMS_SHOWN and "data_docs" in catalog:
            path = Path(catalog["data_docs"].filepath).parent / FILE_NAME
            write_text(path, "".join(problem + "\n" for problem in error.problems))
            error.name_full_list(path)
