"""Measures `kedro review` with 2,000 photographs in a real browser. Part of `data_quality.py`."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from targets import Target

from resnet50_pipeline.commands.data.review import open_review
from resnet50_pipeline.imagenet.lists.fixes import Fix, read_fixes, write_fixes
from resnet50_pipeline.parameters import DatasetParameters

CANDIDATES, CLASSES, WIDTH, HEIGHT = 2_000, 10, 500, 375
DECISIONS = 50
SECONDS, KEY_SECONDS = 2.0, 0.1
_READY = "document.body?.dataset.ready === 'true'"
# Interactive: the script is ready, and the thumbnails in the window are painted. The boxes are those of the list items,
# because the box of an image in a row that the browser skips (`content-visibility`) forces a layout of that row.
_PAINTED = """[...document.querySelectorAll('#grid li')].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.top < innerHeight && box.bottom > 0;
}).map((one) => one.querySelector('img')).every((one) => one.complete && one.naturalWidth > 0)"""
_KEY = """(async () => {
  const start = performance.now();
  document.dispatchEvent(new KeyboardEvent('keydown', { key: 'k' }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return (performance.now() - start) / 1000;
})()"""


def measure(folder: Path) -> list[Target]:
    """Return the seconds from opening the page until it is interactive, and those of one decision."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    chromium = importlib.import_module("chromium")
    if chromium.CHROMIUM is None:
        print("review: Chromium is not installed, so the page is not measured")
        return []
    root, findings, output = folder / "images", folder / "findings.csv", folder / "reviewed.csv"
    names = _write_images(root)
    write_fixes(findings, (Fix(name, "relabel", str(row % CLASSES), "suspicious") for row, name in enumerate(names)))
    start = time.perf_counter()
    server, _ = open_review(findings, output, root, DatasetParameters())
    listening = time.perf_counter() - start
    with server, chromium.open_chromium() as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            view = browser.show("about:blank", width=1300)
            start = time.perf_counter()
            browser.call("Page.navigate", url=server.url)
            # The answer to an expression in the page that is being replaced may be lost.
            browser.listen(0.2)
            _wait_for(view, f"{_READY} && {_PAINTED}")
            interactive = time.perf_counter() - start
            keys = sorted(float(view.evaluate(_KEY)) for _ in range(DECISIONS))
            _wait_for(view, "!document.getElementById('progress').textContent.includes('saving')")
        finally:
            server.shutdown()
    assert len(read_fixes(output)) == DECISIONS
    print(f"review: listening after {listening:.2f} s, interactive {interactive:.2f} s later, key {keys[-1]:.3f} s")
    return [
        Target(f"review page interactive with {CANDIDATES:,} candidates, seconds", interactive, SECONDS),
        Target("median time from a key to the painted decision, seconds", keys[len(keys) // 2], KEY_SECONDS),
    ]


def _write_images(root: Path) -> list[str]:
    """Write images of the size of ImageNet's to class folders, and return the paths in train/."""
    draw = np.random.default_rng(0)
    names = []
    for row in range(CANDIDATES + CLASSES):
        split, label = ("train", row % CLASSES) if row < CANDIDATES else ("val", row - CANDIDATES)
        name = f"{split}/c{(label + 1) % CLASSES}/{row}.jpg"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)
        names += [name] if split == "train" else []
    return names


def _wait_for(view: Any, expression: str) -> None:
    end = time.monotonic() + 120
    while not view.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.01)
