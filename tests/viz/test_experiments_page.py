"""The page that `make exp` writes compares the experiments of one environment, and works offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import CHROMIUM, VIEWS, Chromium, open_chromium

PROJECT = Path(__file__).parents[2]
STAGE = """\
import json, pathlib, sys
rate = float(pathlib.Path("params.yaml").read_text().split(":")[1])
for env, factor in (("dvc", 1), ("imagenet", 0.1)):
    folder = pathlib.Path(f"data/{env}/08_reporting/plots/tables")
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parents[1] / "metrics.json").write_text(json.dumps({"top1": rate * factor, "loss": 1 - rate}))
    for table in ("train", "validation"):
        lines = [f"{epoch},{1 / (epoch + rate)},{rate * epoch / 3}" for epoch in (1, 2, 3)]
        (folder / f"{table}.csv").write_text("\\n".join(["epoch,loss,top1", *lines]))
    (folder / "classes.csv").write_text(f"id,name,images,top1\\n0,zero,3,{rate}\\n1,one,3,{rate / 2}\\n2,two,0,")
"""
STAGES = """\
stages:
  training:
    cmd: {python} stage.py
    params: [rate]
    metrics: [data/dvc/08_reporting/metrics.json, data/imagenet/08_reporting/metrics.json]
    plots: [data/dvc/08_reporting/plots, data/imagenet/08_reporting/plots]
"""

pytestmark = pytest.mark.slow  # runs DVC and starts a browser


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit and one experiment, both with results of two environments."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "stage.py").write_text(STAGE)
    (folder / "params.yaml").write_text("rate: 0.3\n")
    (folder / "dvc.yaml").write_text(STAGES.format(python=sys.executable))
    for command in (
        ["git", "init", "-q", "-b", "main"],
        ["git", "config", "user.email", "test@example.com"],
        ["git", "config", "user.name", "Test"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "repro", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-q", "-m", "Add the stage"],
        [sys.executable, "-m", "dvc", "exp", "run", "-q", "--name", "faster", "--set-param", "rate=0.6"],
    ):
        subprocess.run(command, cwd=folder, env=environment(folder), check=True, capture_output=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Return environment variables that keep DVC's files in `folder` and turn off its telemetry."""
    return {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "site")}


def show_experiments(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program behind `make exp`."""
    return subprocess.run(
        [sys.executable, PROJECT / "tools" / "experiments.py", *arguments],
        cwd=repository, env=environment(repository), capture_output=True, text=True, check=False,
    )  # fmt: skip


def rows(printed: str) -> list[list[str]]:
    """Return the cells of the printed table, without its head and the commits."""
    table = printed.partition("\n\n")[0].splitlines()
    return [[name, *values] for name, _commit, *values in (line.split() for line in table[1:])]


def test_the_table_has_the_metrics_and_the_changed_parameters(repository: Path) -> None:
    """The commit and the experiment are rows, with the metrics of the environment and the parameter that differs."""
    done = show_experiments(repository)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["experiment", "commit", "top1", "loss", "rate"]
    assert rows(done.stdout) == [["main", "0.3", "0.7", "0.3"], ["faster", "0.6", "0.4", "0.6"]]


def test_only_the_environment_asked_for_is_shown(repository: Path) -> None:
    """With --env imagenet, the metrics are those in data/imagenet. An environment without results is an error."""
    assert rows(show_experiments(repository, "--env", "imagenet").stdout)[0][1] == "0.03"
    done = show_experiments(repository, "--env", "local")
    assert done.returncode == 1
    assert "data/local" in done.stderr


def test_a_template_replaces_the_scripts_in_dvcs_own_page(repository: Path) -> None:
    """With `plots.html_template`, `dvc plots show` loads the scripts in the template instead of those on a server."""
    template = repository / ".dvc" / "plots.html"
    template.write_text('<script src="vega.js"></script>{plot_divs}')
    for command in (["config", "--local", "plots.html_template", template.name], ["plots", "show", "--out", "own"]):
        subprocess.run(
            [sys.executable, "-m", "dvc", *command],
            cwd=repository, env=environment(repository), check=True, capture_output=True,
        )  # fmt: skip
    page = (repository / "own" / "index.html").read_text()
    assert "vegaEmbed(" in page
    assert re.findall(r"<script[^>]* src=[^>]*>", page) == ['<script src="vega.js">']


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser for all tests."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; run: apt-get install chromium")
    with open_chromium() as browser:
        yield browser


def test_the_page_compares_the_experiments_in_every_view(repository: Path, chromium: Chromium) -> None:
    """In every view, the page draws each experiment once per figure, and requests nothing from other hosts.

    A class without images has no bar.
    """
    assert show_experiments(repository).returncode == 0
    page = (repository / "build" / "experiments" / "index.html").as_uri()
    for width, scheme in VIEWS:
        view = chromium.show(page, width=width, scheme=scheme, settle=0.5)
        assert (view.errors, view.outside) == ([], [])
        assert view.requests == [page, page.replace("index.html", "plotly.min.js")]
        assert view.count_visible("tbody tr") == 2
        assert view.count_visible("figure.lines") == 4
        assert view.count_visible("figure.lines path.js-line") == 8
        assert view.count_visible("figure.bars .point") == 4
        assert not view.is_wider_than_window(), (width, scheme)
