"""Draws the stages and their main results as docs/images/pipeline.svg, which follows the reader's color scheme.

python tools/pipeline_picture.py docs/images/pipeline.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

# The stages in order, each with the catalog entries that other stages or people use.
RESULTS = {
    "sample_data": ["dataset_root"],
    "data_validation": ["manifest", "validation_report", "data_docs"],
    "data_preparation": ["train_list, val_list", "label_map", "shards"],
    "training": ["training_dir", "training_history", "training_summary"],
    "evaluation": ["predictions, metrics", "plots", "evaluation_report"],
    "model_registration": ["inference_model", "registered_model"],
}
_COLUMNS = 3
_WIDTH, _HEIGHT, _GAP, _MARGIN = 240, 118, 46, 4
_STYLE = """
text { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: 14px; }
.box { fill: #ffffff; stroke: #0072b2; stroke-width: 1.5; }
.number { fill: #0072b2; font-weight: 700; font-size: 16px; }
.name { fill: #1c2127; font-weight: 700; font-size: 16px; }
.result { fill: #5a6470; }
.arrow { stroke: #5a6470; stroke-width: 2; fill: none; }
.head { fill: #5a6470; }
@media (prefers-color-scheme: dark) {
  .box { fill: #171c23; stroke: #56b4e9; }
  .number { fill: #56b4e9; }
  .name { fill: #e8ebef; }
  .result { fill: #a2adb9; }
  .arrow { stroke: #a2adb9; }
  .head { fill: #a2adb9; }
}
"""


def draw() -> str:
    """Return the picture as SVG, with three boxes per row."""
    rows = -(-len(RESULTS) // _COLUMNS)
    width = 2 * _MARGIN + _COLUMNS * _WIDTH + (_COLUMNS - 1) * _GAP
    height = 2 * _MARGIN + rows * _HEIGHT + (rows - 1) * _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{" → ".join(RESULTS)}">',
        f"<style>{_STYLE}</style>",
    ]
    for number, (stage, results) in enumerate(RESULTS.items()):
        left, top = _place(number)
        parts.append(f'<rect class="box" x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="10"/>')
        parts.append(f'<text class="number" x="{left + 16}" y="{top + 30}">{number + 1}</text>')
        parts.append(f'<text class="name" x="{left + 38}" y="{top + 30}">{stage}</text>')
        parts += [
            f'<text class="result" x="{left + 38}" y="{top + 56 + 21 * line}">{text}</text>'
            for line, text in enumerate(results)
        ]
        if number:
            parts += _draw_arrow(number)
    return "\n".join([*parts, "</svg>\n"])


def _place(number: int) -> tuple[int, int]:
    row, column = divmod(number, _COLUMNS)
    return _MARGIN + column * (_WIDTH + _GAP), _MARGIN + row * (_HEIGHT + _GAP)


def _draw_arrow(number: int) -> list[str]:
    """Return the arrow that ends at a box: straight within a row, and around the corner to the next row."""
    left, top = _place(number)
    if number % _COLUMNS:
        y = top + _HEIGHT // 2
        path, head = f"M{left - _GAP + 4} {y}H{left - 12}", f"M{left - 4} {y}l-10 -6v12z"
    else:
        start_left, start_top = _place(number - 1)
        x, y, end = start_left + _WIDTH // 2, start_top + _HEIGHT + _GAP // 2, left + _WIDTH // 2
        path = f"M{x} {start_top + _HEIGHT + 4}V{y}H{end}V{top - 12}"
        head = f"M{end} {top - 4}l-6 -10h12z"
    return [f'<path class="arrow" d="{path}"/>', f'<path class="head" d="{head}"/>']


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(), encoding="utf-8")
