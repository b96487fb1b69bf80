"""Logs the start and end of stages and nodes, and shows them in the terminal view."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner

from resnet50_pipeline.hooks.mlflow_place import find_place
from resnet50_pipeline.logs.context import log_context
from resnet50_pipeline.logs.formats import FIELDS, SHOWN_ELSEWHERE
from resnet50_pipeline.logs.set_up import FILE_ONLY, IN_STREAM, IN_VIEW, current_log
from resnet50_pipeline.pipeline_registry import STAGES
from resnet50_pipeline.processes.interruption import received_interruption
from resnet50_pipeline.progress import Stage, current_view
from resnet50_pipeline.text import format_clock, pluralize

logger = logging.getLogger(__name__)

_STAGE_OF_MODULE = re.compile(r"\.pipelines\.(\w+)\.")
_OTHER = "nodes"


class ProgressHooks:
    """Counts nodes and stages. Kedro may interleave independent nodes of different stages."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._nodes = 0
        self._running: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self._started = 0.0
        self._lock = threading.Lock()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Count the nodes per stage, name the log file after the session, and open the terminal view."""
        nodes = select_nodes(run_params, pipeline, catalog)
        self._stages = group_nodes(nodes)
        self._nodes, self._started = len(nodes), time.monotonic()
        self._numbers = {node.name: number for number, node in enumerate(nodes, start=1)}
        log = current_log()
        log.set_session(str(run_params["run_id"]))
        logger.info(
            "session %s, environment %s: %s",
            *(log_context.session, run_params["env"] or "local", ", ".join(self._stages) or "nothing to run"),
            extra={SHOWN_ELSEWHERE: IN_STREAM},
        )
        places = {} if log.path is None else {"log": str(log.path)}
        current_view().open_run(
            list(self._stages.values()), places | {"MLflow": find_place(run_params, catalog).shown.strip("`")}
        )

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node) -> None:
        """Log the stage, such as `stage 2/6 data_validation`, and the node, such as `2/17 scan_dataset`."""
        stage = self._stages[stage_of(node)]
        self._running[node.name] = time.monotonic()
        log_context.stage, log_context.node = stage.name, node.name
        if stage.done == 0 and not stage.node:
            self._log(f"stage {self._number(stage)} {stage.name}")
        # Log the node's number instead of counting, because ParallelRunner runs each node in a separate process.
        self._log(f"{self._numbers[node.name]}/{self._nodes} {node.name}")
        stage.node, stage.node_started = node.name, time.monotonic()

    @hook_impl(trylast=True)
    def after_node_run(self, node: Node, outputs: dict[str, Any]) -> None:
        """Record the outputs that must be saved before the node counts as finished. Saving may take a while."""
        self._unsaved[node.name] = set(outputs)
        if not outputs:
            self._end(node)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Count the node as finished after its last output is saved."""
        unsaved = self._unsaved[node.name]
        unsaved.discard(dataset_name)
        if not unsaved:
            self._end(node)

    def _end(self, node: Node) -> None:
        """Count the node as finished. After the last node of its stage, log how long the stage took."""
        stage = self._stages[stage_of(node)]
        with self._lock:  # ThreadRunner runs several nodes at the same time
            stage.seconds += time.monotonic() - self._running.pop(node.name)
            stage.done += 1
        if stage.node == node.name:
            stage.node = ""
        if log_context.node == node.name:
            log_context.node = ""
        if stage.is_done:
            self._log(
                f"stage {self._number(stage)} {stage.name} done in {format_clock(stage.seconds)}",
                seconds=round(stage.seconds, 3),
            )

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the terminal view and log the duration of the run, before the summary is printed."""
        current_view().close_run()
        seconds = time.monotonic() - self._started
        logger.info(
            "%s done in %s",
            *(pluralize(self._nodes, "node"), format_clock(seconds)),
            extra={FIELDS: {"nodes": self._nodes, "seconds": round(seconds, 3)}, SHOWN_ELSEWHERE: IN_VIEW},
        )

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Close the terminal view, and write the error to the log file, which MLflow stores.

        The command prints the error.
        """
        current_view().close_run()
        reason = received_interruption() or error
        where = f" in {log_context.node}" if log_context.node else ""
        logger.error("the run failed%s: %s", where, reason, exc_info=error, extra={SHOWN_ELSEWHERE: FILE_ONLY})
        current_log().has_traceback = True

    def _number(self, stage: Stage) -> str:
        return f"{list(self._stages).index(stage.name) + 1}/{len(self._stages)}"

    def _log(self, message: str, **fields: float) -> None:
        logger.info("%s", message, extra={FIELDS: fields, SHOWN_ELSEWHERE: IN_VIEW})


def select_nodes(run_params: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> list[Node]:
    """Return the nodes that Kedro's runner will run, taking `--only-missing-outputs` into account."""
    if not run_params.get("only_missing_outputs"):
        return list(pipeline.nodes)
    # Kedro passes the whole pipeline to hooks. The runner applies this function later, and logs the skipped nodes.
    kedro_logger = logging.getLogger(SequentialRunner.__module__)
    level = kedro_logger.level
    kedro_logger.setLevel(logging.WARNING)
    try:
        return list(SequentialRunner()._filter_pipeline_for_missing_outputs(pipeline, catalog).nodes)
    finally:
        kedro_logger.setLevel(level)


def list_outputs(run_params: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> set[str]:
    """Return the names of the datasets that the run will save. Call this before the run."""
    return {name for node in select_nodes(run_params, pipeline, catalog) for name in node.outputs}


def stage_of(node: Node) -> str:
    """Return the stage of a node: the name of the package that contains its function."""
    found = _STAGE_OF_MODULE.search(getattr(node.func, "__module__", ""))
    return found[1] if found else _OTHER


def group_nodes(nodes: list[Node]) -> dict[str, Stage]:
    """Return the stages of the nodes, keyed by name, in the order of the chain."""
    names = [stage_of(node) for node in nodes]
    ordered = sorted(set(names), key=lambda name: (STAGES.index(name) if name in STAGES else len(STAGES), name))
    return {name: Stage(name, names.count(name)) for name in ordered}
