"""Checks the nodes, datasets, tags and runner in the options of `kedro run` before Kedro uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.utils import load_obj

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.pipeline_registry import SELECTING_OPTIONS, select_environment
from resnet50_pipeline.text import list_names, suggest_name

_MAX_NAMES = 20


def _node_names(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


# For each option: the flag, the noun for its values, and a function that lists a pipeline's valid values.
_SELECTIONS: Mapping[str, tuple[str, str, Callable[[Pipeline], Iterable[str]]]] = {
    "node_names": ("--nodes", "node", _node_names),
    "from_nodes": ("--from-nodes", "node", _node_names),
    "to_nodes": ("--to-nodes", "node", _node_names),
    "from_inputs": ("--from-inputs", "dataset", lambda pipeline: pipeline.datasets()),
    "to_outputs": ("--to-outputs", "dataset", lambda pipeline: pipeline.datasets()),
    "tags": ("--tags", "tag", lambda pipeline: {tag for node in pipeline.nodes for tag in node.tags}),
    "namespaces": ("--namespaces", "namespace", lambda pipeline: {n.namespace for n in pipeline.nodes if n.namespace}),
}


def require_known_selection(options: Mapping[str, Any], environment: str | None) -> None:
    """Check that all names in the options exist, and that the options select at least one node.

    Raises:
        ParameterError: if a name does not exist, or if no node is selected.
    """
    given = {name: options[name] for name in SELECTING_OPTIONS if options[name]}
    if not given:
        return
    select_environment(environment)
    chosen = options["pipelines"] or [options["pipeline"] or "__default__"]
    pipeline: Pipeline = sum((pipelines[name] for name in chosen), Pipeline([]))
    for option, names in given.items():
        flag, noun, known_names = _SELECTIONS[option]
        known = sorted(known_names(pipeline))
        for name in names:
            if name not in known:
                hint = suggest_name(name, known) or f"known: {list_names(known, _MAX_NAMES) or 'none'}"
                raise ParameterError(f"{flag}: there is no {noun} {name!r} in the selected pipelines → {hint}")
    try:
        pipeline.filter(**{_filter_argument(option): names for option, names in given.items()})
    except ValueError as error:
        flags = ", ".join(_SELECTIONS[option][0] for option in given)
        raise ParameterError(f"{flags}: no node matches all of these options → remove one of the options") from error


def require_known_runner(runner: str | None) -> None:
    """Check that Kedro can import the runner.

    Raises:
        ParameterError: if there is no such runner.
    """
    try:
        load_obj(runner or "SequentialRunner", "kedro.runner")
    except (AttributeError, ImportError, ValueError) as error:
        raise ParameterError(
            f"--runner {runner}: there is no such runner → use SequentialRunner, ThreadRunner, ParallelRunner or the "
            "path of a class"
        ) from error


def _filter_argument(option: str) -> str:
    return "node_namespaces" if option == "namespaces" else option
