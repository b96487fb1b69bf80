"""The MLflow store: a database file that is whole, or a server or database that answers. Nothing is created in it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.preflight.machine import nearest_folder
from resnet50_pipeline.tracking.address import StoreAddress, find_address, find_home

_SQLITE_MAGIC = b"SQLite format 3\0"
_CONNECT_SECONDS = 3.0
_READ_SECONDS = 1.0
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
# What SQLAlchemy takes where the URI names no driver (`postgresql+psycopg2://…` does).
_DRIVERS = {"postgresql": "psycopg", "mysql": "MySQLdb", "mssql": "pyodbc"}
_DRIVERS_BEFORE_SQLALCHEMY_2_1 = {"postgresql": "psycopg2"}
_WAITS = "training would run, and MLflow be told when it is back; model_registration would fail"


def check_store_file(tracking: TrackingParameters, project_path: Path) -> Iterator[Finding]:
    """Read a database file as far as a second goes. Unlike a server, a damaged file does not come back by itself."""
    try:
        address = find_address(tracking, project_path)
    except ParameterError as error:
        yield Finding("MLflow", "blocking", str(error), "a server or a database")
        return
    if address.file is not None:
        yield _check_file(address.file)
        yield _check_artifacts(find_home(project_path) / tracking.artifact_root)


def check_store_answers(tracking: TrackingParameters, project_path: Path) -> Iterator[Finding]:
    """Reach a server, and ask it for the experiment; or reach a database's port and find its driver."""
    try:
        address = find_address(tracking, project_path)
    except ParameterError:
        return  # check_store_file says so
    if address.file is not None:
        return
    yield _check_answer(address, tracking)
    if address.kind == "database":
        yield _check_driver(urlsplit(address.uri).scheme)


def find_file_problem(path: Path) -> str | None:
    """Return what is wrong with an MLflow database file, None where nothing is, or where it is yet to be made."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            return "is not an SQLite database"
    deadline = time.monotonic() + _READ_SECONDS
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_READ_SECONDS)
        try:
            connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        # Too large to be read whole in the time; or another run writes to it, and so finds it whole.
        return None if str(error) in ("interrupted", "database is locked") else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else str(answer)


def _check_file(path: Path) -> Finding:
    remedy = f"move {path.name} aside (a new one is made), or put back a copy of it"
    if problem := find_file_problem(path):
        return Finding("MLflow", "blocking", f"{path}: {problem}", "a whole file", remedy)
    # SQLite writes its journal beside the file.
    is_writable = os.access(path if path.exists() else nearest_folder(path), os.W_OK)
    is_writable = is_writable and os.access(nearest_folder(path.parent), os.W_OK)
    return judge(
        is_writable,
        "blocking",
        "MLflow",
        found=f"{path.name}, {'whole' if path.exists() else 'to be made'}{'' if is_writable else ', read-only'}",
        needed="a whole file, in a writable folder",
        remedy=f"give yourself write access to {path} and its folder, or set tracking.uri",
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
        remedy=f"give yourself write access to {folder}, or set tracking.artifact_root",
    )


def _check_answer(address: StoreAddress, tracking: TrackingParameters) -> Finding:
    needed = "a store that answers"
    parts = urlsplit(address.uri)
    if parts.hostname is not None:  # `databricks` has none
        port = parts.port or _PORTS.get(parts.scheme.split("+")[0], 443)
        try:
            socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            found = f"{address.shown} does not answer: {error.strerror or error}"
            return Finding("MLflow", "warning", found, needed, f"start it, or set tracking.uri; {_WAITS}")
    if address.kind == "server":
        return _ask_server(address, tracking)
    return Finding("MLflow", "ok", f"{address.shown} answers", needed)


def _ask_server(address: StoreAddress, tracking: TrackingParameters) -> Finding:
    """Ask for the experiment, with the credentials that MLflow itself finds: a question that changes nothing."""
    from resnet50_pipeline.tracking.store import find_deleted_experiment

    needed = f"a server with experiment {tracking.experiment!r}, or one that makes it"
    try:
        deleted = find_deleted_experiment(address.uri, tracking.experiment)
    except Exception as error:  # MLflow's own, requests', urllib3's: whatever stands in the way is the finding
        words = " ".join(f"{type(error).__name__}: {error}".split())
        found = f"{address.shown} answers, but not as MLflow: {words[:160]}"
        return Finding("MLflow", "warning", found, needed, f"check address and credentials; {_WAITS}")
    return judge(
        deleted is None,
        "blocking",
        "MLflow",
        found=f"{address.shown} answers" + ("" if deleted is None else f"; {tracking.experiment!r} is deleted there"),
        needed=needed,
        remedy=f"mlflow experiments restore -x {deleted}, or set tracking.experiment",
    )


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
        remedy=f"install {module} into .venv, or use `mlflow server` in front of the database",
    )
