"""Writes the Kedro-Viz graph of all pipelines as static files for any web server.

    python tools/viz_site.py build/viz

`kedro viz build` has three problems: it writes to `build/`, where wheels are built too; it exits with code 0 after a
failure; and its page loads a font from Google. This program uses the same library without them.
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

# Without these settings, the page loads a script that counts visitors.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RESNET50_PIPELINE_GROUPS_BY_STAGE", "1")

_ELSEWHERE = re.compile(r"\s*<link[^>]*https?://[^>]*>")


def build_site(project: Path, target: Path) -> list[str]:
    """Write the site for a project's pipelines to `target`, replacing the folder, and return its node names."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as staged:
        warnings.simplefilter("ignore")  # FastAPI warns about Kedro-Viz's code
        from kedro_viz.api.rest.responses.metadata import MetadataAPIResponse, get_metadata_response
        from kedro_viz.integrations.deployment.local_deployer import LocalDeployer
        from kedro_viz.server import load_and_populate_data

        load_and_populate_data(project)
        os.chdir(staged)  # the deployer always writes to the current folder
        LocalDeployer().deploy(is_all_previews_enabled=True)
        os.chdir(project)
        site = Path(staged, "build")
        index = site / "index.html"
        index.write_text(_ELSEWHERE.sub("", index.read_text(encoding="utf-8")), encoding="utf-8")
        (site / "telemetry.html").unlink(missing_ok=True)
        metadata = MetadataAPIResponse.model_validate(get_metadata_response(), from_attributes=True)
        # The page requests this file, which only Kedro-Viz's server has.
        (site / "api" / "metadata").write_text(metadata.model_dump_json(), encoding="utf-8")
        chain = json.loads((site / "api" / "main").read_text(encoding="utf-8"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(site, target)
    return [node["name"] for node in chain["nodes"] if node["type"] == "task"]


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    nodes = build_site(Path(__file__).parents[1], folder)
    print(f"{folder}: {len(nodes)} nodes; show it with `python -m http.server --directory {sys.argv[1]}`")
