"""The log file of a run is named after its session, and old log files are pruned."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs.log_file import RunLogHandler, prune_log_files
from resnet50_pipeline.logs.set_up import current_log, logging_run
from resnet50_pipeline.parameters import LogParameters

logger = logging.getLogger("resnet50_pipeline.tests")


@pytest.fixture(autouse=True)
def _levels(monkeypatch):
    monkeypatch.setattr(logger, "level", logging.INFO)


def test_a_run_logs_to_a_file_named_after_its_session(tmp_path: Path):
    """Messages logged before and after the session is known go to one file, which is named after the session."""
    with logging_run(LogParameters(directory=tmp_path / "logs"), is_quiet=True) as log:
        logger.info("before")
        log.set_session("2026-11-24T17.00.00.000Z")
        logger.info("after \udcff")
        assert current_log() is log
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name == "2026-11-24T17.00.00.000Z.log"
    assert [line[20:] for line in file.read_text().splitlines()] == ["INFO    before", "INFO    after \\udcff"]
    assert current_log().path is None


def test_the_log_file_can_be_json_too(tmp_path: Path):
    """Every line of the file is a JSON object that includes the session."""
    with logging_run(LogParameters(format="json", directory=tmp_path), is_quiet=True) as log:
        log.set_session("s")
        logger.warning("one\ntwo")
    (line,) = (tmp_path / "s.log").read_text().splitlines()
    assert (json.loads(line)["message"], json.loads(line)["session"]) == ("one\ntwo", "s")


def test_quiet_keeps_everything_in_the_file(tmp_path: Path, capsys):
    """`--quiet` prints only warnings and errors, but the file receives all messages."""
    with logging_run(LogParameters(directory=tmp_path), is_quiet=True):
        logger.info("of interest later")
        logger.warning("of interest now")
    assert "of interest later" not in (printed := capsys.readouterr().err)
    assert "WARNING of interest now" in printed
    (file,) = tmp_path.iterdir()
    assert "of interest later" in file.read_text()


def test_pruning_keeps_the_newest_files_and_files_in_use(tmp_path: Path):
    """The newest `keep` files are kept, as are an older file of a running process and files that are not logs."""
    for day in range(1, 6):
        (tmp_path / f"2026-11-0{day}T00.00.00.000Z.log").touch()
    (tmp_path / "notes.txt").touch()
    writing = RunLogHandler(tmp_path)
    writing.rename_to_session("2026-10-01T00.00.00.000Z")
    prune_log_files(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-10-01T00.00.00.000Z.log",
        "2026-11-04T00.00.00.000Z.log",
        "2026-11-05T00.00.00.000Z.log",
        "notes.txt",
    ]
    writing.close()
    prune_log_files(tmp_path, keep=2)
    assert not (tmp_path / "2026-10-01T00.00.00.000Z.log").exists()


def test_an_existing_file_of_the_session_is_not_overwritten(tmp_path: Path):
    """Two sessions with the same start time write two files."""
    (tmp_path / "s.log").write_text("another's")
    handler = RunLogHandler(tmp_path)
    handler.rename_to_session("s")
    handler.close()
    assert (tmp_path / "s.log").read_text() == "another's"
    assert handler.path.exists()


def test_an_unusable_log_folder_is_a_parameter_error(tmp_path: Path):
    """The error includes the `logs.directory` parameter and the folder."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(ParameterError, match=r"logs\.directory.*file/logs"),
        logging_run(LogParameters(directory=tmp_path / "file" / "logs"), is_quiet=True),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_reported_once_and_does_not_stop_the_run(tmp_path: Path, capsys):
    """The first failed write prints one error to stderr. Later messages and the end of the run raise no errors."""
    handler = RunLogHandler(tmp_path)
    os.dup2(os.open("/dev/full", os.O_WRONLY), handler.stream.fileno())
    for _ in range(2):
        handler.emit(logging.makeLogRecord({"msg": "lost", "levelno": logging.INFO}))
    handler.close()
    assert capsys.readouterr().err.count("[Errno 28]") == 1
