"""Kedro-Viz' picture of the whole chain as a folder of files, for any web server and without a network.

    python tools/viz_site.py build/viz

`kedro viz build` writes into `build/`, where the wheel is built too, ends with exit code 0 where it failed, and its
page asks Google for a font: this is the same by the same library, in a folder of its own, and asks nobody.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

# `kedro viz run` asks too; with it the page would load a script of a company that counts visitors.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")

_ELSEWHERE = re.compile(r"\s*<link[^>]*https?://[^>]*>")


def build_site(project: Path, target: Path) -> list[str]:
    """Write the site of a project's pipelines to `target`, in place of what is there; return the names of its nodes."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as staged:
        warnings.simplefilter("ignore")  # of FastAPI, about Kedro-Viz' own code
        from kedro_viz.integrations.deployment.local_deployer import LocalDeployer
        from kedro_viz.server import load_and_populate_data

        load_and_populate_data(project)
        os.chdir(staged)  # the deployer has no other way to be told where
        LocalDeployer().deploy()
        os.chdir(project)
        site = Path(staged, "build")
        index = site / "index.html"
        index.write_text(_ELSEWHERE.sub("", index.read_text(encoding="utf-8")), encoding="utf-8")
        (site / "telemetry.html").unlink(missing_ok=True)
        chain = json.loads((site / "api" / "main").read_text(encoding="utf-8"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(site, target)
    return [node["name"] for node in chain["nodes"] if node["type"] == "task"]


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    nodes = build_site(Path(__file__).parents[1], folder)
    print(f"{folder}: {len(nodes)} nodes; `python -m http.server --directory {sys.argv[1]}` shows it")
