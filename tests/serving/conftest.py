"""Provides a registered version of the small exported model, as users download it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.tracking.registry.versions import ModelFiles, register_model
from resnet50_pipeline.tracking.runs import open_run


@pytest.fixture(scope="session")
def registered_folder(exported_model, tmp_path_factory) -> Path:
    """The files of a registered version, which are all that a serving machine gets."""
    project = tmp_path_factory.mktemp("registered")
    run = open_run(DESCRIPTION, sqlite_store(project), project)
    version = register_model(run, ModelFiles(exported_model.folder), name="probe", tags={}, metrics={})
    client, _ = run.connect()
    source = str(client.get_model_version("probe", str(version.version)).source)
    run.end("FINISHED")
    return Path(source.removeprefix("file://"))
