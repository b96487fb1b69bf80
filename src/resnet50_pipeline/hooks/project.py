"""Where a run stands: its folder, and whether a signal has ended it."""

from __future__ import annotations

import os
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from resnet50_pipeline.interruption import raise_if_interrupted


class ProjectHooks:
    """Makes relative paths mean the project's folder, and ends the run where a signal came."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Go to the project's folder."""
        os.chdir(context.project_path)
        # Matplotlib keeps a list of fonts, by default in the user's home.
        os.environ.setdefault("MPLCONFIGDIR", str(context.project_path / ".cache" / "matplotlib"))

    @hook_impl
    def before_node_run(self) -> None:
        """Stop here where a signal was swallowed by a library."""
        raise_if_interrupted()

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Stop here, before the results are saved, where a signal was swallowed by a library."""
        raise_if_interrupted()
