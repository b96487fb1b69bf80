"""`kedro ui` opens MLflow with the runs of an environment, and its pages show what the run has logged."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chromium import CHROMIUM, VIEWS, open_chromium
from mlflow_stores import client_of, find_own_errors, find_runs
from ports import free_port
from resnet50_pipeline.tracking.pages import artifact_page, run_page

pytestmark = pytest.mark.slow
SECONDS = 120
EXPERIMENT = "resnet50-digits"


@contextmanager
def serving(project, *arguments: str) -> Iterator[str]:
    """The address that `kedro ui` prints, while it runs."""
    server = project.start("ui", "--no-browser", "--port", str(free_port()), *arguments)
    try:
        lines = iter(server.stdout.readline, "")
        yield next(line.strip() for line in lines if line.startswith("http"))
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=SECONDS)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium")
def test_the_pages_of_mlflow_show_runs_and_results(probe_project):
    """The first page lists the runs with the columns for training. A run's page has its description and its report."""
    for rate in ("0.01", "0.02"):
        assert probe_project.run("run", "--params", f"training.lr.learning_rate={rate}").returncode == 0
    first, second = find_runs(client_of(probe_project.path), EXPERIMENT)
    experiment_id, run_id = second.info.experiment_id, second.info.run_id
    with serving(probe_project) as url, open_chromium() as chromium:
        base = url.partition("/#")[0]
        chromium.show(url, width=1440).wait_for("ResNet50 local lr=0.01", "ResNet50 local lr=0.02")
        for width, scheme in VIEWS:
            view = chromium.show(url, width=width, scheme=scheme, settle=2)
            assert find_own_errors(view.errors) == []
            assert view.outside == [], (width, scheme)
        view = chromium.show(url, width=2400)
        for column in ("evaluation/top1", "training.lr.learning_rate", "recipe", "data_digest"):
            assert column in view.wait_for("ResNet50 local lr=0.01", "data_digest"), column
        view = chromium.show(base + run_page(experiment_id, run_id), width=1440)
        shown = view.wait_for("top-1 75.00%, top-5 100.00% on 3 images", "report · PaddleClas YAML · log")
        assert "Model training" in shown
        view = chromium.show(
            base + artifact_page(experiment_id, run_id, "evaluation/evaluation_report.html"), width=1440
        )
        view.wait_for("evaluation/evaluation_report.html")
        compared = f'{base}/#/compare-runs?runs=["{first.info.run_id}","{run_id}"]&experiments=["{experiment_id}"]'
        chromium.show(compared, width=1440).wait_for("training.lr.learning_rate")


def test_a_port_in_use_is_reported(probe_project):
    """The error names the port and the option that chooses another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = probe_project.run("ui", "--no-browser", "--port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert f"--port {port + 1}" in done.stderr


def test_a_server_is_only_opened(probe_project, server):
    """If tracking.uri is a server, the command prints its page and ends."""
    server.start()
    done = probe_project.run("ui", "--no-browser", "--params", f"tracking.uri={server.uri}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{server.uri}/#/experiments/")
