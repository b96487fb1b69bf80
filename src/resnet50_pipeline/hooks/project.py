"""Where a run stands: its folder, its progress, and whether a signal has ended it."""

from __future__ import annotations

import logging
import os
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from resnet50_pipeline.interruption import raise_if_interrupted

logger = logging.getLogger(__name__)


class ProjectHooks:
    """Makes relative paths mean the project's folder, and says which node runs."""

    def __init__(self) -> None:
        self._nodes = 0
        self._started = 0

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Go to the project's folder."""
        os.chdir(context.project_path)
        # Matplotlib keeps a list of fonts, by default in the user's home.
        os.environ.setdefault("MPLCONFIGDIR", str(context.project_path / ".cache" / "matplotlib"))

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Count the nodes to run."""
        self._nodes, self._started = len(pipeline.nodes), 0

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Log `2/14 validate_images`; stop here where a signal was swallowed by a library."""
        raise_if_interrupted()
        self._started += 1
        logger.info("%d/%d %s", self._started, self._nodes, node.name)

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Stop here, before the results are saved, where a signal was swallowed by a library."""
        raise_if_interrupted()
