"""Tests the checks of MLflow's database file and of servers. The checks create nothing in the store."""

from __future__ import annotations

import http.server
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from mlflow_stores import MlflowServer, make_database
from ports import free_port
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.preflight.mlflow_store import (
    check_outbox,
    check_store_answers,
    check_store_file,
    find_file_problem,
)

EXPERIMENT = "preflight"


def tracking(uri: str) -> TrackingParameters:
    return TrackingParameters(uri=uri, experiment=EXPERIMENT, artifact_root=Path("mlartifacts"))


def test_an_intact_and_a_missing_database_pass(tmp_path):
    """The check creates neither a file nor a folder, and does not change the database."""
    database, artifacts = check_store_file(tracking("sqlite:///new/mlflow.db"), tmp_path)
    assert (database.status, artifacts.status) == ("ok", "ok")
    assert list(tmp_path.iterdir()) == []
    make_database(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    database, _ = check_store_file(tracking("sqlite:///mlflow.db"), tmp_path)
    assert database.status == "ok"
    assert "mlflow.db" in database.found
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("offset", [0, 40_000])
def test_a_damaged_database_blocks(tmp_path, offset):
    """Damage to the header and to a page in the middle is found, and the finding identifies the file."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    data = bytearray(path.read_bytes())
    data[offset : offset + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    database, _ = check_store_file(tracking("sqlite:///mlflow.db"), tmp_path)
    assert database.status == "blocking"
    assert database.found.startswith(str(path))
    assert "mlflow.db" in database.remedy


def test_a_truncated_database_has_a_problem(tmp_path):
    """A partial database file is not accepted."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    path.write_bytes(path.read_bytes()[:50_000])
    assert find_file_problem(path) is not None


def test_a_locked_database_passes(tmp_path):
    """A locked database passes, because another run is using it."""
    path = tmp_path / "mlflow.db"
    make_database(path)
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert find_file_problem(path) is None
        writer.execute("ROLLBACK")


def test_a_folder_as_tracking_uri_blocks(tmp_path):
    """A file store is a blocking finding, because MLflow no longer supports it."""
    (finding,) = check_store_file(tracking("file:///runs"), tmp_path)
    assert finding.status == "blocking"
    assert list(check_store_answers(tracking("file:///runs"), tmp_path)) == []


def test_a_server_that_does_not_answer_is_a_warning(tmp_path):
    """An unreachable server is only a warning. The finding does not contain the password."""
    port = free_port()
    (finding,) = check_store_answers(tracking(f"http://user:s3cret@127.0.0.1:{port}"), tmp_path)
    assert finding.status == "warning"
    assert f"127.0.0.1:{port}" in finding.found
    assert "Connection refused" in finding.found
    assert "s3cret" not in str(finding)
    assert "model_registration" in finding.remedy


def test_a_server_that_is_not_mlflow_is_a_warning(tmp_path):
    """The finding identifies the address of the wrong server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (finding,) = check_store_answers(tracking(f"http://127.0.0.1:{server.server_port}"), tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert finding.status == "warning"
    assert f"127.0.0.1:{server.server_port}" in finding.found


def test_a_database_server_needs_its_driver(tmp_path):
    """A missing Python driver is a blocking finding, whether or not the database answers."""
    _, driver = check_store_answers(tracking("mysql+nosuchdriver://127.0.0.1:1/mlflow"), tmp_path)
    assert driver.status == "blocking"
    assert "nosuchdriver" in driver.found


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mssql"])
def test_the_checked_driver_is_the_default_of_sqlalchemy(tmp_path, dialect):
    """If the URI does not name a driver, the check looks for the one that SQLAlchemy would use."""
    uri = f"{dialect}://127.0.0.1:1/mlflow"
    _, driver = check_store_answers(tracking(uri), tmp_path)
    expected = make_url(uri).get_dialect().driver
    assert driver.found.split()[0].lower() == expected.lower()


@pytest.mark.slow
def test_only_a_deleted_experiment_blocks_on_a_real_server(tmp_path):
    """A missing or existing experiment passes, and a deleted one blocks. The check does not create an experiment."""
    with MlflowServer(tmp_path) as server:
        server.start()
        uri = server.uri
        client = MlflowClient(uri)
        # The server opens its database on the first request, which can take longer than the check waits.
        client.search_experiments()
        finding, *_ = check_store_answers(tracking(uri), tmp_path)
        assert finding.status == "ok"
        assert client.get_experiment_by_name(EXPERIMENT) is None
        experiment = client.create_experiment(EXPERIMENT)
        finding, *_ = check_store_answers(tracking(uri), tmp_path)
        assert finding.status == "ok"
        client.delete_experiment(experiment)
        finding, *_ = check_store_answers(tracking(uri), tmp_path)
        assert finding.status == "blocking"
        assert f"mlflow experiments restore -x {experiment}" in finding.remedy


def test_a_writable_outbox_passes(tmp_path):
    """The check passes with and without the folder, and creates nothing."""
    assert check_outbox(tmp_path).status == "ok"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".mlflow_outbox").mkdir()
    assert check_outbox(tmp_path).status == "ok"
    assert list((tmp_path / ".mlflow_outbox").iterdir()) == []


@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_an_outbox_that_is_not_a_folder_blocks(tmp_path, what):
    """If the outbox path is a file or a dangling link, the finding shows the path."""
    outbox = tmp_path / ".mlflow_outbox"
    if what == "file":
        outbox.write_text("")
    else:
        outbox.symlink_to(tmp_path / "elsewhere")
    finding = check_outbox(tmp_path)
    assert finding.status == "blocking"
    assert str(outbox) in finding.found


def test_a_full_disk_under_the_outbox_blocks(make_disk):
    """A full disk is found by writing a small unnamed file."""
    disk = make_disk(1)
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    finding = check_outbox(disk)
    assert finding.status == "blocking"
    assert str(disk) in finding.found


def test_a_read_only_project_blocks(make_disk):
    """If the project is on a read-only file system, the outbox is not writable, which blocks."""
    disk = make_disk(1)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert check_outbox(disk).status == "blocking"
