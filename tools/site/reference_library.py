"""The pages of the library's public functions, a page a room, from their docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

from models import table

PACKAGE = Path("src/resnet50_pipeline")
ROOMS = {
    "imagenet": "Files, lists, classes, archives and shards.",
    "imaging": "From bytes to pixels: decode, crop, flip, normalise; shared by training, evaluation and serving.",
    "expectations": "What is expected of a data set, and Data Docs.",
    "paddleclas": "Renders PaddleClas' YAML, starts and watches ranks.",
    "reporting": "Metrics, plots and the report: functions over tables.",
    "tracking": "MLflow: runs, curves, registry, champion.",
    "serving": "The predictor, and the registered model's face to MLflow.",
    "trainer": "The program that the ranks run.",
}
HEAD = """\
# Library

Every node calls one function of these rooms; they can be called without Kedro. Which room may import which is a
contract that `make lint` checks.
"""


def render_index() -> str:
    """Return the Markdown of the page that names the rooms."""
    return "\n".join([HEAD, *table(("room", ""), [(f"[{room}]({room}.md)", text) for room, text in ROOMS.items()])])


def render_room(room: str) -> str:
    """Return the Markdown of the page of one room."""
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
