"""Downloads files from a run that is identified by its ID, its name or a registered version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import is_registered_reference
from resnet50_pipeline.tracking.fetch import EVIDENCE, find_version
from resnet50_pipeline.tracking.store import Store

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class RunFile:
    """A downloaded file of a run."""

    name: str
    """Name of the run, or of the registered version."""
    path: Path


def fetch_run_file(store: Store, reference: str, file_name: str, folder: Path) -> RunFile:
    """Download a file from the `evaluation/` artifact folder of a run.

    Args:
        store: MLflow store.
        reference: run ID, name of a run in the store's experiment, or `models:/name@alias` or `models:/name/version`.
        file_name: name of the file.
        folder: folder for the download.

    Raises:
        TrackingError: if there is no such run, if several runs have this name, or if the run has no such file.
    """
    run_id, name = _find_run(store, reference)
    client, path = store.connect(), f"{EVIDENCE}/{file_name}"
    if path not in {file.path for file in client.list_artifacts(run_id, EVIDENCE)}:
        raise TrackingError(f"{reference}: the run has no artifact {path} → choose a run that evaluated a model")
    return RunFile(name, Path(client.download_artifacts(run_id, path, str(folder))))


def _find_run(store: Store, reference: str) -> tuple[str, str]:
    """Return the ID and the name of a run."""
    client = store.connect()
    if is_registered_reference(reference):
        version = find_version(store, reference)
        return str(version.run_id), f"{version.name} version {version.version}"
    if _RUN_ID.fullmatch(reference):
        return reference, str(client.get_run(reference).info.run_name or reference[:8])
    experiment = store.find_experiment(client)
    quoted = reference.replace("'", "")
    found = client.search_runs([experiment], f"attributes.run_name = '{quoted}'", max_results=2)
    if not found and "/" in reference and not reference.startswith("models:"):
        raise TrackingError(
            f"{reference}: there is no such file, folder or run → correct the path, or use the run ID that MLflow shows"
        )
    if len(found) != 1:
        problem = "several runs have this name" if found else f"experiment {store.experiment!r} has no such run"
        raise TrackingError(f"{reference}: {problem} → use the run ID that MLflow shows")
    return str(found[0].info.run_id), reference
