"""Generates one page per package with its public functions and their docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

from models import table

PACKAGE = Path("src/resnet50_pipeline")
ROOMS = {
    "imagenet": "Files, lists, classes, archives and shards.",
    "imaging": "Decoding, cropping and normalization, shared by training, evaluation and serving.",
    "expectations": "Expectations about a dataset, and Data Docs.",
    "paddleclas": "Renders PaddleClas' YAML file, and starts and supervises ranks.",
    "reporting": "Metrics, plots and the report, computed from tables.",
    "tracking": "MLflow runs and curves, the registry and the champion.",
    "serving": "The predictor and the registered model's MLflow interface.",
    "trainer": "The program that the ranks run.",
}
HEAD = """\
# Library

Every node calls one function from these packages; the functions also work without Kedro. `make lint` checks which
package may import which.
"""


def render_index() -> str:
    """Return the Markdown of the page that lists the packages."""
    rows = [(f"[{room}]({room}.md)", text) for room, text in ROOMS.items()]
    return "\n".join([HEAD, *table(("package", "content"), rows)])


def render_room(room: str) -> str:
    """Return the Markdown of the page of one package."""
    lines = [f"# {room}", "", ROOMS[room], ""]
    for path in sorted((PACKAGE / room).glob("*.py")):
        module = ".".join(path.with_suffix("").relative_to("src").parts)
        if not path.stem.startswith("_") and _has_public_names(path):
            lines += [f"## `{path.stem}`", "", f"::: {module}", ""]
    return "\n".join(lines)


def _has_public_names(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return any(not name.startswith("_") for name in defined)
