"""Which stage and node runs: told to the log, and to the view of a terminal."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from resnet50_pipeline.hooks.description import read_group
from resnet50_pipeline.hooks.summary import command_of_page
from resnet50_pipeline.interruption import received_interruption
from resnet50_pipeline.logs.formats import FIELDS, SHOWN_ELSEWHERE
from resnet50_pipeline.logs.place import place
from resnet50_pipeline.logs.set_up import FILE_ONLY, IN_STREAM, IN_VIEW, current_log
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.pipeline_registry import STAGES
from resnet50_pipeline.progress import Stage, current_view, format_duration
from resnet50_pipeline.tracking.address import find_address

logger = logging.getLogger(__name__)

_STAGE_OF_MODULE = re.compile(r"\.pipelines\.(\w+)\.")
_OTHER = "nodes"


class ProgressHooks:
    """Counts nodes and stages; Kedro runs nodes of one stage between those of another where nothing binds them."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._nodes = 0
        self._begun = 0
        self._started = 0.0

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Count what is to run, and give the log file the session's name."""
        self._stages = group_nodes(pipeline.nodes)
        self._nodes, self._begun, self._started = len(pipeline.nodes), 0, time.monotonic()
        log = current_log()
        log.take_session(str(run_params["run_id"]))
        logger.info(
            "session %s, environment %s: %s",
            *(place.session, run_params["env"] or "local", ", ".join(self._stages)),
            extra={SHOWN_ELSEWHERE: IN_STREAM},
        )
        places = {} if log.path is None else {"log": str(log.path)}
        current_view().open_run(list(self._stages.values()), places | _place_of_runs(catalog))

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node) -> None:
        """Log `stage 2/6 data_validation` and `2/17 scan_dataset`."""
        stage = self._stages[stage_of(node)]
        place.stage, place.node = stage.name, node.name
        if stage.done == 0 and not stage.node:
            self._log(f"stage {self._number(stage)} {stage.name}")
        self._begun += 1
        self._log(f"{self._begun}/{self._nodes} {node.name}")
        stage.node, stage.node_started = node.name, time.monotonic()

    @hook_impl(trylast=True)
    def after_node_run(self, node: Node, outputs: dict[str, Any]) -> None:
        """Wait for the results to be saved, which may take longer than the node."""
        self._unsaved[node.name] = set(outputs)
        if not outputs:
            self._end(node)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """End the node with its last result."""
        unsaved = self._unsaved[node.name]
        unsaved.discard(dataset_name)
        if not unsaved:
            self._end(node)

    def _end(self, node: Node) -> None:
        """Count the node, and log when its stage is done and how long it took."""
        stage = self._stages[stage_of(node)]
        stage.seconds += time.monotonic() - stage.node_started
        stage.done, stage.node = stage.done + 1, ""
        place.node = ""
        if stage.is_done:
            self._log(
                f"stage {self._number(stage)} {stage.name} done in {format_duration(stage.seconds)}",
                seconds=round(stage.seconds, 3),
            )

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Take the view away before the summary, and log how long everything took."""
        current_view().close_run()
        seconds = time.monotonic() - self._started
        logger.info(
            "%d nodes done in %s",
            *(self._nodes, format_duration(seconds)),
            extra={FIELDS: {"nodes": self._nodes, "seconds": round(seconds, 3)}, SHOWN_ELSEWHERE: IN_VIEW},
        )

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Take the view away, and tell the log file, which MLflow gets, why the run ends; the command tells people."""
        current_view().close_run()
        ends = received_interruption() or error
        where = f" in {place.node}" if place.node else ""
        logger.error("the run ends%s: %s", where, ends, exc_info=error, extra={SHOWN_ELSEWHERE: FILE_ONLY})
        current_log().has_traceback = True

    def _number(self, stage: Stage) -> str:
        return f"{list(self._stages).index(stage.name) + 1}/{len(self._stages)}"

    def _log(self, message: str, **fields: float) -> None:
        logger.info("%s", message, extra={FIELDS: fields, SHOWN_ELSEWHERE: IN_VIEW})


def stage_of(node: Node) -> str:
    """Return the stage that a node belongs to: its function stands in the stage's package."""
    found = _STAGE_OF_MODULE.search(getattr(node.func, "__module__", ""))
    return found[1] if found else _OTHER


def group_nodes(nodes: list[Node]) -> dict[str, Stage]:
    """Return the stages of these nodes by name, in the order of the chain."""
    names = [stage_of(node) for node in nodes]
    ordered = sorted(set(names), key=lambda name: (STAGES.index(name) if name in STAGES else len(STAGES), name))
    return {name: Stage(name, names.count(name)) for name in ordered}


def _place_of_runs(catalog: CatalogProtocol[Any, Any]) -> dict[str, str]:
    address = find_address(read_group(catalog, "tracking", TrackingParameters), Path.cwd())
    return {"MLflow": address.shown if address.kind == "server" else command_of_page()}
