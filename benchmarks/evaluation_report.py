"""Measures metrics, plots, report and model card for 50,000 predictions of 1,000 classes. Part of `evaluation.py`.

With Chromium, it also measures the time from a click in the report to the images that it shows.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from targets import Target, peak_memory_bytes

if TYPE_CHECKING:  # `compute` imports it, so that the memory of a single process is measured
    import pandas as pd

CLASSES, IMAGES_PER_CLASS = 1_000, 50
SECONDS, GIGABYTES = 20.0, 1.0
MEGABYTES, CLICK_SECONDS = 8.0, 1.0
PHOTOGRAPHS = 64
# Each expression clicks something or changes a filter. The slowest counts.
CLICKS = {
    "a confusion cell": "document.querySelector('#matrix td.miss button').click()",
    "a class": "document.querySelector('#class-dots button.dots-row').click()",
    "a confidence bin": "document.querySelectorAll('#reliability .bin')[12].dispatchEvent(new MouseEvent('click'))",
    "all images": "document.querySelector('#images select').value = 'all', "
    "document.querySelector('#images select').dispatchEvent(new Event('change'))",
    "a text": "document.querySelector('#images input[type=search]').value = '0000012', "
    "document.querySelector('#images input[type=search]').dispatchEvent(new Event('input'))",
    "the order": "[...document.querySelectorAll('#images select')].at(-1).value = 'path', "
    "[...document.querySelectorAll('#images select')].at(-1).dispatchEvent(new Event('change'))",
    "clear filters": "document.querySelector('#images .status button').click()",
    "the metric": "document.querySelectorAll('#class-dots .switch button')[1].click()",
}


def measure(folder: Path) -> list[Target]:
    """Return the time and the peak memory of a separate process that writes its files to `folder`."""
    done = subprocess.run([sys.executable, __file__, folder], check=True, capture_output=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    print("report: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figures["seconds"].items()))
    size = (folder / "report.html").stat().st_size / 1e6
    return [
        Target("metrics and report for 50,000 predictions, seconds", sum(figures["seconds"].values()), SECONDS),
        Target("peak memory of the same, GB", figures["gigabytes"], GIGABYTES),
        Target("size of the report, MB", size, MEGABYTES),
        *measure_clicks(folder / "report.html"),
    ]


def measure_clicks(report: Path) -> list[Target]:
    """Return the seconds of the slowest click in the report, until the browser has painted its result."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reporting"))
    browser = importlib.import_module("browser")
    if browser.CHROMIUM is None:
        print("report: Chromium is not installed, so no clicks are measured")
        return []
    painted = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    with browser.start_browser() as chromium:
        start = time.perf_counter()
        chromium.open(report, width=1300)
        opened = time.perf_counter() - start
        seconds = {
            name: chromium.evaluate(
                f"(async () => {{ const start = performance.now(); {click}; {painted}; "
                f"return (performance.now() - start) / 1000; }})()"
            )
            for name, click in CLICKS.items()
        }
    print(f"report: opened in {opened:.2f} s, " + ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items()))
    return [Target("slowest click in the report, seconds", max(seconds.values()), CLICK_SECONDS)]


def compute(folder: Path) -> None:
    """Compute everything, write it below `folder` and print the seconds and the peak memory as JSON."""
    import pandas as pd

    from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
    from resnet50_pipeline.reporting.classes import read_class_names
    from resnet50_pipeline.reporting.comparison import compare_predictions
    from resnet50_pipeline.reporting.data_quality.label_issues import tabulate_label_issues
    from resnet50_pipeline.reporting.metrics import compute_metrics, per_class_table
    from resnet50_pipeline.reporting.model_card import render_model_card
    from resnet50_pipeline.reporting.plots import write_plots
    from resnet50_pipeline.reporting.prediction_table import read_prediction_table
    from resnet50_pipeline.reporting.provenance import Provenance
    from resnet50_pipeline.reporting.report import ReportInputs, render_report

    predictions, rival = (make_predictions(seed) for seed in (0, 1))
    for number, table in enumerate((predictions, rival)):
        table.to_parquet(folder / f"{number}.parquet", index=False)
    label_map = {
        "class_num": CLASSES,
        "classes": [{"id": i, "synset": f"n{i:08d}", "name": f"a class, the {i}th"} for i in range(CLASSES)],
    }
    count = len(predictions)
    speeds = {"images_per_second": 1000.0, "images_per_second_without_loading": 1100.0, "seconds": count / 1000}
    digests = {"list": "val_list.txt", "list_digest": "sha256:0", "weights_digest": "sha256:0", "arch": "ResNet50"}
    made = {"ranks": 1, "device": "cpu", "paddle_version": "3.3.1", "epoch": 1, "step": 1, "checkpoint": "best"}
    summary = {**speeds, **digests, **made, "images": count, "is_best_checkpoint": False}
    split = {"images": count, "classes": CLASSES, "min_images_per_class": 50, "max_images_per_class": 50, "bytes": 1}
    validation = {"data_digest": "sha256:0", "statistics": {"train": split, "val": split}, "expectations": []}
    write_photographs(folder, predictions["path"].tolist())
    clock = Clock()
    tables = [pd.read_parquet(folder / f"{number}.parquet") for number in range(2)]
    clock.lap("reading")
    metrics, per_class = compute_metrics(tables[0], summary), per_class_table(tables[0], label_map)
    clock.lap("metrics")
    comparison = {"rival": "another", **compare_predictions(tables[0], tables[1], 2_000)}
    clock.lap("comparison")
    plots = folder / "plots"
    write_plots(
        plots,
        predictions=tables[0],
        per_class=per_class,
        label_map=label_map,
        training_history=None,
        worst_pairs=20,
    )
    clock.lap("plots")
    inputs = ReportInputs(
        metrics=metrics,
        predictions=tables[0],
        per_class=per_class,
        label_map=label_map,
        evaluation_summary=summary,
        comparison=comparison,
        training_summary=None,
        training_history=None,
        validation_report=validation,
        recipe="",
        parameters={},
        recipe_difference=None,
        samples=None,
        explained=(),
        label_issues=tabulate_label_issues({"val": read_prediction_table(tables[0])}, read_class_names(label_map)),
        label_issues_review=ReviewCommands("", ""),
        margins=None,
        robustness=pd.DataFrame(),
        slices=pd.DataFrame(),
        dataset_root=folder,
        train_root=folder,
        provenance=Provenance(datetime.now(UTC), "no commit", {}),
        worst_classes=20,
        gallery_images=1_000,
    )
    (folder / "report.html").write_text(render_report(inputs), encoding="utf-8")
    (folder / "card.md").write_text(render_model_card(inputs), encoding="utf-8")
    clock.lap("report and card")
    gigabytes = peak_memory_bytes() / 1e9
    print(json.dumps({"seconds": clock.laps, "gigabytes": gigabytes}))


def make_predictions(seed: int) -> pd.DataFrame:
    """Return predictions in the format of an ImageNet evaluation; about three of four are correct."""
    import pandas as pd

    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), IMAGES_PER_CLASS)
    first = np.where(draw.random(len(labels)) < 0.76, 0, draw.integers(1, 6, len(labels)))
    ids = (labels[:, None] + first[:, None] + np.arange(5)) % CLASSES
    probabilities = np.sort(draw.dirichlet(np.ones(6), len(labels))[:, :5], axis=1)[:, ::-1]
    return pd.DataFrame(
        {
            "path": [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, len(labels) + 1)],
            "label": labels,
            "top5_ids": list(ids),
            "top5_probabilities": list(probabilities.astype(np.float32)),
            "loss": draw.exponential(1.0, len(labels)).astype(np.float32),
        }
    )


def write_photographs(folder: Path, paths: list[str]) -> None:
    """Write sections of two photographs, 500 x 375 pixels each as in ImageNet, and link every path to one of them."""
    import cv2
    from sklearn.datasets import load_sample_images

    draw = np.random.default_rng(0)
    photographs = load_sample_images().images
    (folder / "val").mkdir()
    for number in range(PHOTOGRAPHS):
        photograph = photographs[number % len(photographs)]
        top, left = draw.integers(0, photograph.shape[0] - 375), draw.integers(0, photograph.shape[1] - 500)
        section = photograph[top : top + 375, left : left + 500, ::-1]
        cv2.imwrite(str(folder / f"{number}.JPEG"), section, [cv2.IMWRITE_JPEG_QUALITY, 92])
    for number, path in enumerate(paths):
        (folder / path).symlink_to(folder / f"{number % PHOTOGRAPHS}.JPEG")


class Clock:
    """Measures the seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Store the seconds since the last lap in `laps[name]`."""
        now = time.perf_counter()
        self.laps[name], self._since = now - self._since, now


if __name__ == "__main__":
    compute(Path(sys.argv[1]))
