"""Resolves `tracking.uri` without importing MLflow, which takes seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrackingParameters

# Folder inside the project for results that MLflow has not received yet (`tracking/delivery/outbox_folder.py`).
OUTBOX = ".mlflow_outbox"
# MLflow's own variable. Programs that use MLflow without this project read it.
URI_VARIABLE = "MLFLOW_TRACKING_URI"
_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"
_DVC_EXPERIMENTS = (".dvc", "tmp", "exps")


@dataclass(frozen=True)
class StoreAddress:
    """The address of an MLflow store.

    Attributes:
        kind: an MLflow server, a database server, or a SQLite file.
        uri: MLflow tracking URI. A SQLite path in it is absolute.
        file: path of the SQLite file, or None for other kinds.
    """

    kind: Literal["server", "database", "file"]
    uri: str
    file: Path | None = None

    @property
    def shown(self) -> str:
        """The URI without its password, for messages and files."""
        return hide_password(self.uri)


def find_home(project_path: Path) -> Path:
    """Return the base folder for relative paths in `params:tracking`.

    This is normally the project folder. DVC runs queued experiments in copies of the project and deletes the copies
    afterward. For such a copy, the base folder is the original project folder.
    """
    for folder in project_path.parents:
        if folder.parts[-3:] == _DVC_EXPERIMENTS:
            _, *below = (part for part in project_path.relative_to(folder).parts if part != "standalone")
            return folder.parents[2].joinpath(*below)
    return project_path


def find_address(tracking: TrackingParameters, project_path: Path) -> StoreAddress:
    """Return the address of the store, with relative paths resolved from the project folder.

    Raises:
        ParameterError: if `tracking.uri` is neither a server nor a database.
    """
    uri = tracking.uri
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in _SERVERS or uri == "databricks":
        return StoreAddress("server", uri)
    if scheme not in _DATABASES:
        raise ParameterError(
            f"tracking.uri is {uri!r}, but MLflow stores runs in a database or on a server, not in a folder: "
            "set sqlite:///mlflow.db, postgresql://… or http://host:port"
        )
    if (uri.startswith("sqlite") and ":memory:" in uri) or uri.rstrip("/") == "sqlite:":
        raise ParameterError(
            f"tracking.uri is {uri!r}, but an in-memory database is lost when its process ends → set it to a file, "
            "such as sqlite:///mlflow.db"
        )
    if uri.startswith(f"{SQLITE}~"):
        path = Path(uri.removeprefix(SQLITE)).expanduser()
        raise ParameterError(
            f"tracking.uri is {uri!r}, but ~ is not expanded in it → set it to the full path: {SQLITE}{path}"
        )
    if uri.startswith(SQLITE):
        file = find_home(project_path) / uri.removeprefix(SQLITE)
        return StoreAddress("file", f"{SQLITE}{file}", file)
    return StoreAddress("database", uri)


def find_ignored_address(
    tracking: TrackingParameters, project_path: Path, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Return the address in MLFLOW_TRACKING_URI if it differs from `tracking.uri`, which this project uses instead."""
    given = environment.get(URI_VARIABLE)
    if not given:
        return None
    used = {tracking.uri.rstrip("/"), find_address(tracking, project_path).uri.rstrip("/")}
    return None if given.rstrip("/") in used else hide_password(given)


def hide_password(uri: str) -> str:
    """Return a URI with its password replaced by `…`."""
    password = urlsplit(uri).password
    return uri if password is None else uri.replace(f":{password}@", ":…@", 1)
