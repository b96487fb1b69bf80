"""Sets a run's working folder, and stops the run after a signal."""

from __future__ import annotations

import os
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from resnet50_pipeline.processes.interruption import raise_if_interrupted


class ProjectHooks:
    """Changes to the project folder and stops the run at the next node after a signal."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Change to the project folder, because relative paths start from it."""
        os.chdir(context.project_path)
        # By default, Matplotlib writes its font cache to the user's home folder.
        os.environ.setdefault("MPLCONFIGDIR", str(context.project_path / ".cache" / "matplotlib"))

    @hook_impl
    def before_node_run(self) -> None:
        """Stop the run if a library has swallowed the exception raised by a signal."""
        raise_if_interrupted()

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Stop the run before saving the results if a library has swallowed the exception raised by a signal."""
        raise_if_interrupted()
