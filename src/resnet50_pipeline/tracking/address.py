"""Resolves `tracking.uri` without importing MLflow, because that import takes seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrackingParameters

# Project folder for results not yet delivered to MLflow (`tracking/delivery/outbox_folder.py`).
OUTBOX = ".mlflow_outbox"
# MLflow's own variable. This project ignores it, but other MLflow clients use it.
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
        uri: MLflow tracking URI. SQLite paths are absolute.
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

    This is normally the project folder. DVC runs queued experiments in temporary copies of the project; for a copy, the
    base folder is the original project.
    """
    for folder in project_path.parents:
        if folder.parts[-3:] == _DVC_EXPERIMENTS:
            _, *below = (part for part in project_path.relative_to(folder).parts if part != "standalone")
            return folder.parents[2].joinpath(*below)
    return project_path


def find_address(tracking: TrackingParameters, project_path: Path) -> StoreAddress:
    """Return the address of the store. Relative paths are resolved against the project folder.

    Raises:
        ParameterError: if `tracking.uri` is neither a server nor a database.
    """
    uri = tracking.uri
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in _SERVERS or uri == "databricks":
        return StoreAddress("server", uri)
    if scheme not in _DATABASES:
        raise ParameterError(
            f"tracking.uri is {uri!r}, but runs cannot be stored in a folder → set tracking.uri to a database or a "
            "server: sqlite:///mlflow.db, postgresql://… or http://host:port"
        )
    if (uri.startswith("sqlite") and ":memory:" in uri) or uri.rstrip("/") == "sqlite:":
        raise ParameterError(
            f"tracking.uri is {uri!r}, but an in-memory database is lost when the process exits → use a file, such as "
            "sqlite:///mlflow.db"
        )
    if uri.startswith(f"{SQLITE}~"):
        path = Path(uri.removeprefix(SQLITE)).expanduser()
        raise ParameterError(
            f"tracking.uri is {uri!r}, but ~ is not expanded there → use the full path: {SQLITE}{path}"
        )
    if uri.startswith(SQLITE):
        file = find_home(project_path) / uri.removeprefix(SQLITE)
        return StoreAddress("file", f"{SQLITE}{file}", file)
    return StoreAddress("database", uri)


def find_ignored_address(
    tracking: TrackingParameters, project_path: Path, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Return the value of MLFLOW_TRACKING_URI if it differs from `tracking.uri`, which takes precedence."""
    given = environment.get(URI_VARIABLE)
    if not given:
        return None
    used = {tracking.uri.rstrip("/"), find_address(tracking, project_path).uri.rstrip("/")}
    return None if given.rstrip("/") in used else hide_password(given)


def hide_password(uri: str) -> str:
    """Return a URI with its password replaced by `…`."""
    password = urlsplit(uri).password
    return uri if password is None else uri.replace(f":{password}@", ":…@", 1)
