"""The log file of a run has a name that says when, and old ones go."""

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
    """What is logged before the session is known, and after, is in one file of the session's name."""
    with logging_run(LogParameters(directory=tmp_path / "logs"), is_quiet=True) as log:
        logger.info("before")
        log.take_session("2026-11-24T17.00.00.000Z")
        logger.info("after \udcff")
        assert current_log() is log
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name == "2026-11-24T17.00.00.000Z.log"
    assert [line[20:] for line in file.read_text().splitlines()] == ["INFO    before", "INFO    after \\udcff"]
    assert current_log().path is None


def test_json_is_for_the_file_too(tmp_path: Path):
    """Every line of the file is an object then, and names the session from when it is known."""
    with logging_run(LogParameters(format="json", directory=tmp_path), is_quiet=True) as log:
        log.take_session("s")
        logger.warning("one\ntwo")
    (line,) = (tmp_path / "s.log").read_text().splitlines()
    assert (json.loads(line)["message"], json.loads(line)["session"]) == ("one\ntwo", "s")


def test_quiet_keeps_everything_in_the_file(tmp_path: Path, capsys):
    """`--quiet` prints warnings and errors, and the file has the rest as well."""
    with logging_run(LogParameters(directory=tmp_path), is_quiet=True):
        logger.info("of interest later")
        logger.warning("of interest now")
    assert "of interest later" not in (printed := capsys.readouterr().err)
    assert "WARNING of interest now" in printed
    (file,) = tmp_path.iterdir()
    assert "of interest later" in file.read_text()


def test_the_oldest_files_go_but_none_that_is_written_to(tmp_path: Path):
    """The newest `keep` stay, and the file of a run of days beside them; files of others are left alone."""
    for day in range(1, 6):
        (tmp_path / f"2026-11-0{day}T00.00.00.000Z.log").touch()
    (tmp_path / "notes.txt").touch()
    writing = RunLogHandler(tmp_path)
    writing.take_name("2026-10-01T00.00.00.000Z")
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


def test_a_file_of_the_sessions_name_is_not_overwritten(tmp_path: Path):
    """Two sessions of the same millisecond keep two files."""
    (tmp_path / "s.log").write_text("another's")
    handler = RunLogHandler(tmp_path)
    handler.take_name("s")
    handler.close()
    assert (tmp_path / "s.log").read_text() == "another's"
    assert handler.path.exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_the_parameters_name(tmp_path: Path):
    """The error names `logs.directory` and the two ways out."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(ParameterError, match=r"logs\.directory: no log file can be written to .*file/logs.*null"),
        logging_run(LogParameters(directory=tmp_path / "file" / "logs"), is_quiet=True),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' full device")
def test_a_full_disk_costs_the_file_and_not_the_run(tmp_path: Path, capsys):
    """The first line that cannot be written is said once on stderr; logging goes on elsewhere."""
    handler = RunLogHandler(tmp_path)
    os.dup2(os.open("/dev/full", os.O_WRONLY), handler.stream.fileno())
    for _ in range(2):
        handler.emit(logging.makeLogRecord({"msg": "lost", "levelno": logging.INFO}))
    assert capsys.readouterr().err.count("cannot be written: [Errno 28]") == 1
    handler.stream = None
