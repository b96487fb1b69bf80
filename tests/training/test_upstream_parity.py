"""Tests parity with a real checkout of PaddleClas: losses, crops and evaluation."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from crops import HEIGHT, WIDTH, crop_boxes
from placed import render_training_config
from resnet50_pipeline.events import EvalEnd, Started, TrainStep, read_events
from resnet50_pipeline.imaging.operators import RandCropImage
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.paddleclas.upstream.config import to_upstream_config
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.recipe.document import parse_training_config
from resnet50_pipeline.training_dir import events_path
from short_training import predict_best, train

HOME = os.environ.get("PADDLECLAS_HOME")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.upstream,
    pytest.mark.skipif(
        HOME is None,
        reason="needs a checkout of PaddleClas: PADDLECLAS_HOME=<checkout of release/2.6> pytest -m upstream",
    ),
]
TESTS = Path(__file__).parents[1]


def run_in_checkout(*arguments: str) -> None:
    """Run a program of upstream_programs.py in the checkout with one thread."""
    environment = {**os.environ, "PYTHONPATH": f"{HOME}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "upstream_programs.py"), *arguments]
    done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def without_augmentation(training: TrainingParameters, dataset: Any) -> dict[str, Any]:
    """Return the configuration for training with the evaluation transform and without shuffling."""
    lists = (dataset.root / f"{split}_list.txt" for split in ("train", "val"))
    document: dict[str, Any] = yaml.safe_load(render_training_config(training, dataset, *lists).to_yaml())
    train, val = document["DataLoader"]["Train"], document["DataLoader"]["Eval"]
    train["dataset"]["transform_ops"] = val["dataset"]["transform_ops"]
    train["sampler"]["shuffle"] = False
    return document


PIECEWISE = {"lr": {"name": "Piecewise", "values": [0.01, 0.001], "decay_epochs": [2]}}


@pytest.mark.parametrize(
    "recipe",
    [
        {"lr": {"name": "Cosine", "learning_rate": 0.01, "warmup_epoch": 1}},
        PIECEWISE,
        {"arch": {"name": "ResNet50"}, **PIECEWISE},
        # The engines sum smoothed targets in different orders, and BatchNorm over 6 images of 32x32 pixels amplifies a
        # difference in the last bit tenfold per step. One batch of all 36 images and a low learning rate limit this.
        {
            "lr": {"name": "Cosine", "learning_rate": 0.0002},
            "label_smoothing": 0.1,
            "batch_size_per_rank": 36,
            "epochs": 24,
            "eval_interval": 24,
            "save_interval": 24,
        },
    ],
    ids=["cosine", "piecewise", "resnet50", "smoothed"],
)
def test_losses_of_first_20_steps_agree(recipe, training_parameters, dataset_parameters, tmp_path):
    """With one rank, the same seed and order, and no augmentation, the losses of each step agree within 1e-4."""
    training = training_parameters(**{"epochs": 4, **recipe})
    config = parse_training_config(yaml.safe_dump(without_augmentation(training, dataset_parameters)), "test")
    native_yaml = tmp_path / "native.yaml"
    native_yaml.write_text(config.to_yaml())
    train_network(native_yaml, training)
    events = read_events(events_path(training.output_dir))
    native = np.array([event.loss for event in events if isinstance(event, TrainStep)])

    elsewhere = config.Global.model_copy(update={"output_dir": str(tmp_path / "upstream")})
    upstream_yaml = tmp_path / "upstream.yaml"
    upstream_yaml.write_text(to_upstream_config(config.model_copy(update={"Global": elsewhere}), ranks=1).text)
    run_in_checkout("losses", str(upstream_yaml), str(tmp_path / "losses.json"))
    upstream = np.array(json.loads((tmp_path / "losses.json").read_text()))

    assert len(native) == len(upstream) == 24
    difference = np.abs(native / upstream - 1)
    print(f"{training.arch.name}: largest relative difference in 20 steps {difference[:20].max():.2e}")
    assert difference[:20].max() < 1e-4
    # The losses must change: equal losses from a network that does not learn would prove nothing.
    assert np.ptp(native) > 0.02


def test_crops_and_their_distribution_agree(tmp_path):
    """With the same random numbers, both operators cut the same boxes. With others, the distributions are the same."""
    count = 4000
    boxes = {}
    for seed in (0, 10_000):
        run_in_checkout("crops", str(count), str(seed), str(tmp_path / "crops.json"))
        boxes[seed] = np.array(json.loads((tmp_path / "crops.json").read_text()))
    operator = RandCropImage(size=224)
    ours = np.array(crop_boxes(lambda pixels, number: operator.apply(pixels, random.Random(number)), count))
    np.testing.assert_array_equal(ours, boxes[0])
    for what, one, other in zip(
        ("area", "aspect ratio", "horizontal position", "vertical position"),
        measures(ours),
        measures(boxes[10_000]),
        strict=True,
    ):
        found = stats.ks_2samp(one, other)
        print(f"{what}: KS statistic {found.statistic:.4f}, p {found.pvalue:.3f}")
        assert found.pvalue > 1e-3, what


def measures(boxes: np.ndarray) -> list[np.ndarray]:
    """Return the relative area, the aspect ratio, and the relative position (0..1) in both directions."""
    left, top, width, height = boxes.T.astype(float)
    free_x, free_y = np.maximum(WIDTH - width, 1), np.maximum(HEIGHT - height, 1)
    return [width * height / (WIDTH * HEIGHT), width / height, left / free_x, top / free_y]


@pytest.fixture
def upstream_parameters(training_parameters):
    """Return a function that builds `params:training` for the checkout's engine."""

    def build(**changes: Any) -> TrainingParameters:
        return training_parameters(
            **{"engine": "paddleclas", "lr": {"name": "Cosine", "learning_rate": 0.005}, **changes}
        )

    return build


def test_upstream_engine_trains_resumes_and_evaluates_like_native(
    upstream_parameters, dataset_parameters, striped_dataset
):
    """Upstream's engine trains two epochs and resumes for a third. Its evaluation agrees with the native one."""
    training = upstream_parameters(epochs=2)
    folder = train(training, dataset_parameters)
    for path in folder.glob("*.pd*"):
        if path.stem in ("epoch_2", "latest", "best_model"):
            path.unlink()
    lines = events_path(folder).read_text().splitlines(keepends=True)
    events_path(folder).write_text("".join(lines[:-1]))

    train(upstream_parameters(epochs=2, resume=True), dataset_parameters)
    events = read_events(events_path(folder))
    assert [event.first_step for event in events if isinstance(event, Started)] == [0, 6]
    best = max((event for event in events if isinstance(event, EvalEnd)), key=lambda event: event.top1)
    predictions = predict_best(folder, striped_dataset / "val_list.txt", training.launch, 4)
    top1 = (predictions["label"] == predictions["top5_ids"].str[0]).mean()
    assert top1 == pytest.approx(best.top1)
