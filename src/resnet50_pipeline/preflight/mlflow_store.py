"""Checks the MLflow store without changing it: a database file, a database server or an MLflow server."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.preflight.machine import nearest_folder
from resnet50_pipeline.tracking.address import (
    OUTBOX,
    URI_VARIABLE,
    StoreAddress,
    find_address,
    find_home,
    find_ignored_address,
)

_SQLITE_MAGIC = b"SQLite format 3\0"
_PROBE_BYTES = 4096
_CONNECT_SECONDS = 3.0
_READ_SECONDS = 1.0
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# SQLAlchemy's default drivers, for URIs that do not name one as in `postgresql+psycopg2://…`.
_DRIVERS = {"postgresql": "psycopg", "mysql": "MySQLdb", "mssql": "pyodbc"}
_DRIVERS_BEFORE_SQLALCHEMY_2_1 = {"postgresql": "psycopg2"}
_WITHOUT_STORE = "otherwise, training runs and uploads its results later, but model_registration fails"


def check_store_file(tracking: TrackingParameters, project_path: Path) -> Iterator[Finding]:
    """Check within a second that a database file is intact and that the artifact folder is writable."""
    try:
        address = find_address(tracking, project_path)
    except ParameterError as error:
        yield Finding("MLflow", "blocking", str(error), "a server or a database")
        return
    if (ignored := find_ignored_address(tracking, project_path)) is not None:
        found = f"{URI_VARIABLE} ({ignored}) is ignored, because tracking.uri is {address.shown}"
        yield Finding("MLflow", "warning", found, "one address", "unset the variable, or change tracking.uri")
    if address.file is not None:
        yield _check_file(address.file)
        yield _check_artifacts(find_home(project_path) / tracking.artifact_root)


def check_outbox(project_path: Path) -> Finding:
    """Check that the outbox, which stores results while MLflow is down, is writable."""
    outbox = find_home(project_path) / OUTBOX
    needed = "a writable folder"
    remedy = (
        f"make {outbox} a writable folder on a disk with free space; this folder stores results while MLflow is down"
    )
    try:
        if not outbox.is_dir() and (outbox.exists() or outbox.is_symlink()):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        # On local file systems, this file has no name, so it disappears even if the process is killed.
        with tempfile.TemporaryFile(dir=nearest_folder(outbox)) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return Finding("outbox", "blocking", f"{outbox}: {error.strerror}", needed, remedy)
    return Finding("outbox", "ok", "writable", needed)


def check_store_answers(tracking: TrackingParameters, project_path: Path) -> Iterator[Finding]:
    """Query the experiment on an MLflow server, or connect to a database server and check its Python driver."""
    try:
        address = find_address(tracking, project_path)
    except ParameterError:
        return  # check_store_file reports it
    if address.file is not None:
        return
    if address.kind == "server":
        yield from _check_server(address, tracking)
    else:
        yield _check_database_server(address)
        yield _check_driver(urlsplit(address.uri).scheme)


def find_file_problem(path: Path) -> str | None:
    """Return the problem with an MLflow database file, or None if the file is intact or does not exist."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            return "not an SQLite database"
    deadline = time.monotonic() + _READ_SECONDS
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_READ_SECONDS)
        try:
            connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        # Neither means damage: the file is too large for the time limit, or another run is using it.
        return None if str(error) in ("interrupted", "database is locked") else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else str(answer)


def _check_file(path: Path) -> Finding:
    remedy = f"restore {path.name} from a backup, or move it elsewhere to start with a new database"
    if problem := find_file_problem(path):
        return Finding("MLflow", "blocking", f"{path}: {problem}", "an intact file", remedy)
    # SQLite writes its journal next to the file, so the folder must be writable too.
    is_writable = os.access(path if path.exists() else nearest_folder(path), os.W_OK)
    is_writable = is_writable and os.access(nearest_folder(path.parent), os.W_OK)
    return judge(
        is_writable,
        "blocking",
        "MLflow",
        found=f"{path.name}, {'intact' if path.exists() else 'will be created'}{'' if is_writable else ', read-only'}",
        needed="an intact file in a writable folder",
        remedy=f"get write access to {path} and its folder, or set tracking.uri",
    )


def _check_artifacts(root: Path) -> Finding:
    folder = nearest_folder(root)
    is_writable = os.access(folder, os.W_OK)
    return judge(
        is_writable,
        "blocking",
        "artifacts",
        found=f"{root.name}, {'writable' if is_writable else 'read-only'}",
        needed="a writable folder",
        remedy=f"get write access to {folder}, or set tracking.artifact_root",
    )


def _check_server(address: StoreAddress, tracking: TrackingParameters) -> Iterator[Finding]:
    """Query the experiment without creating it, using MLflow's own credentials, certificates and proxies."""
    from resnet50_pipeline.tracking.store import read_experiment, require_answer

    needed = f"an MLflow server with a usable experiment {tracking.experiment!r}"
    try:
        require_answer(address.uri)
    except OSError as error:
        found = f"{address.shown} does not respond: {error}"
        yield Finding("MLflow", "warning", found, needed, f"start the server, or set tracking.uri; {_WITHOUT_STORE}")
        return
    try:
        state = read_experiment(address.uri, tracking.experiment)
    except Exception as error:  # MLflow, requests and urllib3 errors have no common base class
        words = " ".join(f"{type(error).__name__}: {error}".split()).replace(address.uri, address.shown)
        found = f"{address.shown} does not respond like an MLflow server: {words[:160]}"
        yield Finding("MLflow", "warning", found, needed, f"check the address and credentials; {_WITHOUT_STORE}")
        return
    yield judge(
        state.deleted_id is None,
        "blocking",
        "MLflow",
        found=f"{address.shown} responds"
        + ("" if state.deleted_id is None else f", but experiment {tracking.experiment!r} is deleted"),
        needed=needed,
        remedy=f"mlflow experiments restore -x {state.deleted_id}, or set tracking.experiment",
    )
    yield from _check_artifact_location(state.artifact_location)


def _check_artifact_location(location: str) -> Iterator[Finding]:
    """Check that this machine can write to a server's artifact folder, which is necessary without an artifact proxy."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file") or not parts.path:
        return
    folder = Path(unquote(parts.path))
    yield judge(
        os.access(nearest_folder(folder), os.W_OK),
        "warning",
        "artifacts",
        found=f"the server expects clients to write to {folder}",
        needed="a folder that this machine can write to",
        remedy="start the server with --artifacts-destination instead of --default-artifact-root; until then, the "
        "artifacts of a run stay in the outbox, and model_registration fails",
    )


def _check_database_server(address: StoreAddress) -> Finding:
    needed = "a database server that responds"
    parts = urlsplit(address.uri)
    port = parts.port or _PORTS[parts.scheme.split("+")[0]]
    try:
        socket.create_connection((parts.hostname or "localhost", port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        found = f"{address.shown} does not respond: {error.strerror or error}"
        return Finding("MLflow", "warning", found, needed, f"start the server, or set tracking.uri; {_WITHOUT_STORE}")
    return Finding("MLflow", "ok", f"{address.shown} responds", needed)


def _check_driver(scheme: str) -> Finding:
    dialect, _, driver = scheme.partition("+")
    before_2_1 = tuple(map(int, importlib.metadata.version("sqlalchemy").split(".")[:2])) < (2, 1)
    module = driver or (_DRIVERS | _DRIVERS_BEFORE_SQLALCHEMY_2_1 if before_2_1 else _DRIVERS)[dialect]
    return judge(
        importlib.util.find_spec(module) is not None,
        "blocking",
        "MLflow driver",
        found=f"{module} is {'' if importlib.util.find_spec(module) else 'not '}installed",
        needed=f"a Python driver for {dialect}",
        remedy=f"install {module} in .venv, or set tracking.uri to an `mlflow server` that uses the database",
    )
