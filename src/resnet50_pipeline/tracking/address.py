"""Where `tracking.uri` points, said without importing MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrackingParameters

_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE = "sqlite:///"
_DVC_EXPERIMENTS = (".dvc", "tmp", "exps")


@dataclass(frozen=True)
class StoreAddress:
    """A server, a database that a server of its own keeps, or a database file.

    Attributes:
        kind: which of them.
        uri: MLflow tracking URI; a SQLite path in it is absolute.
        file: the database file, where it is one.
    """

    kind: Literal["server", "database", "file"]
    uri: str
    file: Path | None = None

    @property
    def shown(self) -> str:
        """The URI without a password, to be shown and written."""
        return hide_password(self.uri)


def find_home(project_path: Path) -> Path:
    """Return the folder that relative paths of `tracking` are taken from: the project's.

    DVC runs queued experiments in copies of the project, and deletes them with all that is in them: the runs of such a
    copy belong to the project that it is one of.
    """
    for folder in project_path.parents:
        if folder.parts[-3:] == _DVC_EXPERIMENTS:
            _, *below = (part for part in project_path.relative_to(folder).parts if part != "standalone")
            return folder.parents[2].joinpath(*below)
    return project_path


def find_address(tracking: TrackingParameters, project_path: Path) -> StoreAddress:
    """Return where runs go, with relative paths taken from the project's folder.

    Raises:
        ParameterError: `tracking.uri` is neither a server nor a database.
    """
    uri = tracking.uri
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in _SERVERS or uri == "databricks":
        return StoreAddress("server", uri)
    if scheme not in _DATABASES:
        raise ParameterError(
            f"tracking.uri is {uri!r}, but MLflow keeps runs in a database or a server "
            "(it refuses folders): set sqlite:///mlflow.db, postgresql://… or http://host:port"
        )
    if uri.startswith(_SQLITE):
        file = find_home(project_path) / uri.removeprefix(_SQLITE)
        return StoreAddress("file", f"{_SQLITE}{file}", file)
    return StoreAddress("database", uri)


def hide_password(uri: str) -> str:
    """Return a URI with `…` in place of its password."""
    password = urlsplit(uri).password
    return uri if password is None else uri.replace(f":{password}@", ":…@", 1)
