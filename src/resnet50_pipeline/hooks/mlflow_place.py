"""Finds the address or the command for viewing the MLflow runs of an environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol

from resnet50_pipeline.parameters import TrackingParameters, read_group
from resnet50_pipeline.tracking.address import SQLITE, find_address
from resnet50_pipeline.tracking.pages import LOCAL_SERVER


@dataclass(frozen=True)
class MlflowPlace:
    """Where to view the runs.

    Attributes:
        base: address of the server, or the address that `make ui` will use.
        command: command that starts the server; "" if the server is running elsewhere.
    """

    base: str
    command: str

    @property
    def shown(self) -> str:
        """The command in backquotes if there is one, otherwise the address."""
        return f"`{self.command}`" if self.command else self.base


def find_place(run_params: Mapping[str, Any], catalog: CatalogProtocol[Any, Any]) -> MlflowPlace:
    """Return where to view the runs for the environment and parameters of a Kedro run."""
    tracking = read_group(catalog.load("parameters"), "tracking", TrackingParameters)
    given = (run_params.get("runtime_params") or {}).get("tracking", {})
    return describe_place(tracking, Path.cwd(), run_params.get("env"), given)


def describe_place(
    tracking: TrackingParameters, project_path: Path, environment: str | None, given: Mapping[str, Any]
) -> MlflowPlace:
    """Return the address of a server, or the command that opens the UI for a database.

    `make ui` exists only in a project folder. An installed package has only MLflow's own command.

    Args:
        tracking: `params:tracking`.
        project_path: current folder.
        environment: Kedro environment of the run.
        given: the `tracking` group of the run's `--params`.
    """
    address = find_address(tracking, project_path)
    if address.kind == "server":
        return MlflowPlace(address.shown.rstrip("/"), "")
    if not (project_path / "pyproject.toml").is_file():
        uri = address.shown
        if address.file is not None and address.file.is_relative_to(project_path):
            uri = f"{SQLITE}{address.file.relative_to(project_path)}"
        return MlflowPlace(LOCAL_SERVER, shlex.join(["mlflow", "ui", "--backend-store-uri", uri]))
    options = ["--env", environment] if environment not in (None, "local") else []
    if given:
        shown = {**given, "uri": address.shown} if "uri" in given else given
        options += ["--params", ",".join(f"tracking.{key}={value}" for key, value in shown.items())]
    return MlflowPlace(LOCAL_SERVER, shlex.join(["make", "ui", *([f"ARGS={shlex.join(options)}"] if options else [])]))
