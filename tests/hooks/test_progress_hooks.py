"""Nodes and stages are counted once, regardless of the runner."""

from __future__ import annotations

import logging

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from mlflow_stores import SQLITE
from resnet50_pipeline.hooks.progress import ProgressHooks

NODES = [Node(str.strip, f"raw_{name}", name, name=f"make_{name}") for name in ("a", "b", "c")]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, tmp_path, monkeypatch):
    """Return a function that returns the messages of the hooks so far."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, logger="resnet50_pipeline.hooks.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def open_run() -> ProgressHooks:
    """Return the hooks of a run of three independent nodes."""
    hooks = ProgressHooks()
    catalog = DataCatalog({"parameters": MemoryDataset({"tracking": SQLITE.model_dump()})})
    hooks.before_pipeline_run(run_params={"run_id": "r", "env": "test"}, pipeline=Pipeline(NODES), catalog=catalog)
    return hooks


def end(hooks: ProgressHooks, node: Node) -> None:
    hooks.after_node_run(node=node, outputs={node.outputs[0]: ""})
    hooks.after_dataset_saved(dataset_name=node.outputs[0], node=node)


def test_nodes_of_several_threads_are_counted_once(lines) -> None:
    """Nodes that run at the same time have different numbers, and their stage begins and ends once."""
    hooks = open_run()
    first, second, third = NODES
    hooks.before_node_run(node=first)
    hooks.before_node_run(node=second)
    end(hooks, first)
    hooks.before_node_run(node=third)
    end(hooks, third)
    end(hooks, second)
    hooks.after_pipeline_run()
    assert sorted(line for line in lines() if "make_" in line) == ["1/3 make_a", "2/3 make_b", "3/3 make_c"]
    assert sum(line.startswith("stage") and "done" not in line for line in lines()) == 1
    assert sum("done in" in line and "stage" in line for line in lines()) == 1


def test_nodes_of_several_processes_have_different_numbers(lines) -> None:
    """A process that runs a single node, as with ParallelRunner, logs that node's number."""
    for node in NODES:
        hooks = open_run()
        hooks.before_node_run(node=node)
        end(hooks, node)
        hooks.after_pipeline_run()
    assert sorted(line for line in lines() if "make_" in line) == ["1/3 make_a", "2/3 make_b", "3/3 make_c"]
