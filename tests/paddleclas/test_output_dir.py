"""A training folder never contains a mix of files from two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.events import EventWriter, Finished
from resnet50_pipeline.exceptions import ParameterError, RankFailedError
from resnet50_pipeline.paddleclas.launch.output_dir import claim_output_dir, replacing_previous_run
from resnet50_pipeline.training_dir import config_path, events_path, log_dir


def write_run(folder: Path, log: str) -> None:
    """Write a finished run with one line in its log."""
    log_dir(folder).mkdir(parents=True)
    (log_dir(folder) / "workerlog.0").write_text(log)
    config_path(folder).touch()
    writer = EventWriter(events_path(folder))
    writer.write(Finished(epochs=1, step=1, seconds=1, images_per_second=1, best_epoch=1, best_top1=0.5))
    writer.close()


def test_error_names_the_moved_log(tmp_path):
    """If a run fails before its first set, its files are moved, and the error includes the log's new path."""
    folder = tmp_path / "training"
    write_run(folder, "the finished run")
    with pytest.raises(RankFailedError) as caught, replacing_previous_run(folder):
        write_run(folder, "the failed run")
        raise RankFailedError(f"rank 0 ended; last lines of {log_dir(folder)}/workerlog.0:\nthe failed run")
    named = Path(str(caught.value).partition("last lines of ")[2].partition(":")[0])
    assert named.read_text() == "the failed run"
    assert (log_dir(folder) / "workerlog.0").read_text() == "the finished run"


def test_results_in_the_current_folder_are_refused(tmp_path, monkeypatch):
    """The lock file of `run_dir=.` would be written next to the project."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"'\.'"), claim_output_dir(Path()):
        pass
