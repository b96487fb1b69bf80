"""The picture of the pipelines in README.md is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import yaml
from command_blocks import PROJECT

from resnet50_pipeline.pipeline_registry import STAGES

PICTURE = PROJECT / "docs" / "images" / "pipeline.svg"
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_what_the_program_draws(tmp_path: Path) -> None:
    """`python tools/pipeline_picture.py docs/images/pipeline.svg` does not change the picture."""
    drawn = tmp_path / "pipeline.svg"
    subprocess.run([sys.executable, PROJECT / "tools" / "pipeline_picture.py", drawn], check=True)
    assert drawn.read_bytes() == PICTURE.read_bytes()


def test_the_picture_shows_the_stages_and_existing_results() -> None:
    """The boxes are the stages in order, and every result is an entry of the catalog."""
    texts = [(text.get("class"), text.text or "") for text in ElementTree.parse(PICTURE).iter(f"{SVG}text")]
    assert tuple(text for kind, text in texts if kind == "name") == STAGES
    catalog = yaml.safe_load((PROJECT / "conf" / "base" / "catalog.yml").read_text(encoding="utf-8"))
    shown = {name for kind, text in texts if kind == "result" for name in text.split(", ")}
    assert shown <= set(catalog)
