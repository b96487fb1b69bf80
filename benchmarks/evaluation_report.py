"""Measures metrics, plots, report and model card for 50,000 predictions of 1,000 classes. Part of `evaluation.py`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from targets import Target

if TYPE_CHECKING:  # `compute` imports it, so that the memory of a single process is measured
    import pandas as pd

CLASSES, IMAGES_PER_CLASS = 1_000, 50
SECONDS, GIGABYTES = 20.0, 1.0


def measure(folder: Path) -> list[Target]:
    """Return the time and the peak memory of a separate process that writes its files to `folder`."""
    done = subprocess.run([sys.executable, __file__, folder], check=True, capture_output=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    print("report: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figures["seconds"].items()))
    return [
        Target("metrics and report for 50,000 predictions, seconds", sum(figures["seconds"].values()), SECONDS),
        Target("peak memory of the same, GB", figures["gigabytes"], GIGABYTES),
    ]


def compute(folder: Path) -> None:
    """Compute everything, write it below `folder` and print the seconds and the peak memory as JSON."""
    import pandas as pd

    from resnet50_pipeline.reporting.comparison import compare_predictions
    from resnet50_pipeline.reporting.metrics import compute_metrics, per_class_table
    from resnet50_pipeline.reporting.model_card import render_model_card
    from resnet50_pipeline.reporting.plots import write_plots
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
        validation_report=validation,
        recipe="",
        dataset_root=folder,
        plots_dir=plots,
        provenance=Provenance(datetime.now(UTC), "no commit", {}),
        worst_classes=20,
        gallery_images=0,
    )
    (folder / "report.html").write_text(render_report(inputs), encoding="utf-8")
    (folder / "card.md").write_text(render_model_card(inputs), encoding="utf-8")
    clock.lap("report and card")
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
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
