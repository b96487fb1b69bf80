"""A validation report is used only with the manifest that it describes, even after a run was killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_stores import make_database
from project_copy import copy_project

pytestmark = pytest.mark.slow

KEDRO = str(Path(sys.executable).with_name("kedro"))


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [KEDRO, "run", "--env", "test", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src"), "HOME": str(project / "home")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(project: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit code and stderr of `kedro run --env test`."""
    process = start(project, *arguments)
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_report_of_another_manifest_is_refused(tmp_path: Path):
    """If a run is killed before it writes the report, stages reject the old report until data_validation runs again.

    The images in the new manifest are invalid, but the old report says they are valid.
    """
    project = tmp_path / "project"
    project.mkdir()
    copy_project(project)
    (project / "data" / "test").mkdir(parents=True)
    make_database(project / "data" / "test" / "mlflow.db")
    assert run(project, "--pipelines", "sample_data,data_validation,data_preparation")[0] == 0
    data = project / "data" / "test"
    manifest, report = data / "02_intermediate" / "manifest.parquet", data / "08_reporting" / "validation_report.json"
    before = digest(manifest), digest(report)

    train = sorted((data / "01_raw" / "digits" / "train").rglob("*.JPEG"))
    intact = train[0].read_bytes()
    train[0].write_bytes(intact[:-20])
    process = start(project, "--pipelines", "data_validation")
    while digest(manifest) == before[0]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert digest(report) == before[1], "the report was written before the kill"

    for stage in ("data_preparation", "training"):
        returncode, stderr = run(project, "--pipelines", stage)
        assert returncode == 1, stage
        assert "validation_report.json was not written for" in stderr, (stage, stderr)
    returncode, stderr = run(project, "--pipelines", "data_validation")
    assert returncode == 1
    assert train[0].name in stderr

    train[0].write_bytes(intact)
    assert run(project, "--pipelines", "data_validation")[0] == 0
    returncode, stderr = run(project, "--pipelines", "data_preparation")
    assert returncode == 0, stderr
