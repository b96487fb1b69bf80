"""The static Kedro-Viz files are complete and readable, and work offline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from chromium import CHROMIUM, open_chromium
from resnet50_pipeline.pipeline_registry import STAGES

pytest.importorskip("kedro_viz")
pytestmark = pytest.mark.slow  # imports Kedro-Viz and FastAPI and starts a browser

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site that `make viz-build` writes, in a temporary folder."""
    target = tmp_path_factory.mktemp("viz") / "site"
    done = subprocess.run(
        [sys.executable, PROJECT / "tools" / "viz_site.py", target],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        cwd=tmp_path_factory.mktemp("elsewhere"),
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return target


@pytest.fixture(scope="module")
def chain(site) -> dict:
    """The data that the page loads for the default pipeline."""
    return json.loads((site / "api" / "main").read_text(encoding="utf-8"))


def test_the_site_names_every_node_of_the_chain(chain):
    """The site contains every node of every pipeline and every dataset in the catalog."""
    sources = (PROJECT / "src" / "resnet50_pipeline" / "pipelines").glob("*/pipeline.py")
    declared = {name for source in sources for name in re.findall(r'name="(\w+)"', source.read_text(encoding="utf-8"))}
    assert {node["name"] for node in chain["nodes"] if node["type"] == "task"} == declared
    catalog = yaml.safe_load((PROJECT / "conf" / "base" / "catalog.yml").read_text(encoding="utf-8"))
    # Kedro treats entries whose names start with an underscore as templates.
    datasets = {name for name in catalog if not name.startswith("_")}
    assert datasets <= {node["name"] for node in chain["nodes"] if node["type"] == "data"}


def test_layers_are_the_stages_in_order(chain):
    """The layers of the graph are the stages, in the order of the pipelines."""
    assert chain["layers"] == ["data", "validation", "preparation", "training", "evaluation", "registry"]


def test_the_page_loads_nothing_from_other_hosts(site):
    """The page loads no fonts, scripts or visitor counters from other hosts."""
    page = (site / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://", page)
    assert "heap" not in page
    assert not (site / "telemetry.html").exists()


def test_each_stage_is_a_box_with_its_nodes(chain):
    """The graph has one box per stage, which contains the stage's nodes."""
    boxes = {node["name"]: set() for node in chain["nodes"] if node["type"] == "modularPipeline"}
    assert set(boxes) == set(STAGES)
    for node in chain["nodes"]:
        if node["type"] == "task":
            (stage,) = node["modular_pipelines"]
            boxes[stage].add(node["name"])
    assert boxes["training"] == {"train_network", "summarize_training"}
    assert all(boxes.values())


def test_a_plain_server_shows_six_boxes(site):
    """Served from a plain file server, the page shows the stages in both color schemes, without errors."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_port}/"
    try:
        with open_chromium() as chromium:
            for width, scheme in ((1440, "light"), (1300, "dark"), (390, "light"), (390, "dark")):
                view = chromium.show(page, width=width, scheme=scheme, settle=2)
                for _ in range(60):
                    if view.count_visible(".pipeline-node--modularPipeline"):
                        break
                    chromium.listen(1)
                assert (view.errors, view.outside) == ([], [])
                assert view.count_visible(".pipeline-node--modularPipeline") == len(STAGES)
    finally:
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Do not log requests to stderr."""
