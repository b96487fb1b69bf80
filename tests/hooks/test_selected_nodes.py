"""Progress and MLflow only count the nodes that run, not those excluded by options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.commands.project import load_configuration
from resnet50_pipeline.commands.run import _require_versioned_datasets
from resnet50_pipeline.datasets import JSONDataset
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.hooks.progress import select_nodes


def identity(value: Any) -> Any:
    return value


@pytest.fixture
def chain(tmp_path) -> tuple[Pipeline, DataCatalog]:
    """Two nodes. Only the first has saved its output."""
    nodes = [Node(identity, "start", "first", name="one"), Node(identity, "first", "second", name="two")]
    datasets = {name: JSONDataset(str(tmp_path / f"{name}.json")) for name in ("first", "second")}
    datasets["first"].save(1)
    return Pipeline(nodes), DataCatalog({"start": MemoryDataset(1), **datasets})


def test_only_missing_outputs_are_counted(chain, caplog):
    """--only-missing-outputs selects the nodes whose outputs do not exist. Kedro logs this only once."""
    caplog.set_level("INFO")
    assert [node.name for node in select_nodes({"only_missing_outputs": True}, *chain)] == ["two"]
    assert caplog.records == []


def test_without_the_option_all_nodes_are_counted(chain):
    """Without --only-missing-outputs, all nodes run, even if their outputs exist."""
    assert [node.name for node in select_nodes({"only_missing_outputs": False}, *chain)] == ["one", "two"]


@pytest.mark.parametrize("name", ["manifest", "manifst"])
def test_versions_of_a_dataset_without_versions_are_rejected(name):
    """Kedro would ignore --load-versions for an unversioned or unknown dataset."""
    catalog = load_configuration({"env": "test", "conf_source": None, "params": {}}, Path.cwd())["catalog"]
    with pytest.raises(ParameterError, match="manifest"):
        _require_versioned_datasets([name], catalog)
