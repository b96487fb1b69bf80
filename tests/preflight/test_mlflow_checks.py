"""MLflow's database file, servers that answer, do not, or are something else; nothing is created in any of them."""

from __future__ import annotations

import http.server
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from mlflow_stores import MlflowServer, make_database
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.preflight.mlflow_store import check_store_answers, check_store_file, find_file_problem

EXPERIMENT = "preflight"


def tracking(uri: str) -> TrackingParameters:
    return TrackingParameters(uri=uri, experiment=EXPERIMENT, artifact_root=Path("mlartifacts"))


def test_a_database_that_is_whole_is_fine_and_one_that_is_not_there_will_be_made(tmp_path):
    """Both may be; looking makes neither a file nor a folder."""
    database, artifacts = check_store_file(tracking("sqlite:///new/mlflow.db"), tmp_path)
    assert (database.status, artifacts.status) == ("ok", "ok")
    assert list(tmp_path.iterdir()) == []
    make_database(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    database, _ = check_store_file(tracking("sqlite:///mlflow.db"), tmp_path)
    assert (database.status, database.found) == ("ok", "mlflow.db, whole")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("place", [0, 40_000])
def test_a_damaged_database_is_refused(tmp_path, place):
    """Whether its first bytes are gone or a page in the middle: found, and what to do is said."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    data = bytearray(path.read_bytes())
    data[place : place + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    database, _ = check_store_file(tracking("sqlite:///mlflow.db"), tmp_path)
    assert database.status == "blocking"
    assert database.found.startswith(str(path))
    assert "move mlflow.db aside" in database.remedy


def test_a_torn_database_is_refused(tmp_path):
    """Half a file is no database."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    path.write_bytes(path.read_bytes()[:50_000])
    assert find_file_problem(path) is not None


def test_a_database_that_another_run_writes_to_is_fine(tmp_path):
    """A lock is the sign of somebody who finds it whole."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert find_file_problem(path) is None
        writer.execute("ROLLBACK")


def test_what_is_no_store_is_refused(tmp_path):
    """A folder as tracking URI, which MLflow no longer takes."""
    (finding,) = check_store_file(tracking("file:///runs"), tmp_path)
    assert finding.status == "blocking"
    assert list(check_store_answers(tracking("file:///runs"), tmp_path)) == []


def test_a_server_that_does_not_answer_is_a_warning_within_seconds(tmp_path):
    """Training does not need it, so the run may start; whoever waits at the screen does not wait long."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    (finding,) = check_store_answers(tracking(f"http://user:s3cret@127.0.0.1:{port}"), tmp_path)
    assert time.monotonic() - started < 5
    assert finding.status == "warning"
    assert "does not answer: Connection refused" in finding.found
    assert "s3cret" not in str(finding)
    assert "model_registration would fail" in finding.remedy


def test_a_server_of_another_kind_is_a_warning(tmp_path):
    """What answers on the port must be MLflow."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (finding,) = check_store_answers(tracking(f"http://127.0.0.1:{server.server_port}"), tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert finding.status == "warning"
    assert "answers, but not as MLflow" in finding.found


def test_a_database_server_needs_its_driver(tmp_path):
    """Whether or not it answers, a database without its Python driver cannot be used."""
    _, driver = check_store_answers(tracking("mysql+nosuchdriver://127.0.0.1:1/mlflow"), tmp_path)
    assert (driver.status, driver.found) == ("blocking", "nosuchdriver is not installed")


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mssql"])
def test_the_driver_that_is_asked_for_is_the_one_that_would_be_used(tmp_path, dialect):
    """Where the URI names no driver, it is the one that SQLAlchemy takes by itself."""
    uri = f"{dialect}://127.0.0.1:1/mlflow"
    _, driver = check_store_answers(tracking(uri), tmp_path)
    expected = make_url(uri).get_dialect().driver
    assert driver.found.split()[0].lower() == expected.lower()


@pytest.mark.slow
def test_a_real_server_is_asked_and_nothing_is_made_there(tmp_path):
    """An experiment that is not there, there, or deleted: only the last stands in the way; none is created."""
    with MlflowServer(tmp_path) as server:
        server.start()
        uri = server.uri
        client = MlflowClient(uri)
        (finding,) = check_store_answers(tracking(uri), tmp_path)
        assert finding.status == "ok"
        assert client.get_experiment_by_name(EXPERIMENT) is None
        experiment = client.create_experiment(EXPERIMENT)
        (finding,) = check_store_answers(tracking(uri), tmp_path)
        assert finding.status == "ok"
        client.delete_experiment(experiment)
        (finding,) = check_store_answers(tracking(uri), tmp_path)
        assert finding.status == "blocking"
        assert finding.remedy.startswith(f"mlflow experiments restore -x {experiment}")
