"""Measures the time for heat maps, and for label issues and slices of many predictions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pandas as pd
from targets import Target

from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.reporting.data_quality.label_issues import find_label_issues
from resnet50_pipeline.reporting.data_quality.slices import compute_slices
from resnet50_pipeline.reporting.prediction_table import PredictionTable
from resnet50_pipeline.trainer.explanation.grad_cam import compute_grad_cam
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.small_maps import speed_up_small_maps

IMAGES, CLASSES = 50_000, 1000
_REPETITIONS = 3


def measure(_folder: Path) -> list[Target]:
    """Return the seconds for 48 heat maps of 32-pixel images, and for label issues and slices of 50,000 predictions."""
    random = np.random.default_rng(0)
    paddle.set_device("cpu")
    network = build_network(ArchConfig(name="ResNet50", class_num=10))
    speed_up_small_maps(network)
    images = random.normal(size=(48, 3, 32, 32)).astype(np.float32)

    labels = np.repeat(np.arange(CLASSES), IMAGES // CLASSES)
    top = (labels[:, None] + np.arange(5) * random.integers(1, 9, size=(IMAGES, 1))) % CLASSES
    shift = random.random(IMAGES) < 0.25
    top[shift] = np.roll(top[shift], 1, axis=1)
    share = np.sort(random.dirichlet(np.ones(6), size=IMAGES), axis=1)[:, :0:-1]
    own = np.where(shift, share[:, 1], share[:, 0])
    paths = np.array([f"val/{row}.JPEG" for row in range(IMAGES)], dtype=object)
    table = PredictionTable(paths, labels, top, share, -np.log(own))
    columns = {f"score {number}": random.normal(size=IMAGES) for number in range(10)}
    attributes = pd.DataFrame(columns, index=pd.Index(paths, name="path"))
    return [
        Target(
            "Grad-CAM: ResNet50, 48 images of 32 px, seconds",
            _fastest(lambda: compute_grad_cam(network, images, "NCHW")),
            2.0,
        ),
        Target("label issues of 50,000 predictions, seconds", _fastest(lambda: find_label_issues(table)), 10.0),
        Target(
            "slices of 50,000 predictions, 10 attributes, seconds",
            _fastest(lambda: compute_slices(table, attributes)),
            10.0,
        ),
    ]


def _fastest(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
