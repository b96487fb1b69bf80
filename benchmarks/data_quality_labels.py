"""Measures how well wrong labels are found, and what recording the margins costs."""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from targets import Target

from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.paddleclas.margins import write_margins
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.reporting.data_quality.label_issues import find_label_issues, score_labels
from resnet50_pipeline.reporting.prediction_table import PredictionTable
from resnet50_pipeline.trainer.checkpoints.margins import Margins
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.evaluation import evaluate
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import join_ranks
from resnet50_pipeline.trainer.training import TrainingRun
from resnet50_pipeline.training_dir import newest_checkpoint

SEEDS = (0, 1, 2)
RATES = (0.05, 0.1)
# Digits that look alike, for wrong labels that a person could give too.
CONFUSABLE = {0: 6, 1: 7, 2: 7, 3: 5, 4: 9, 5: 3, 6: 0, 7: 1, 8: 3, 9: 4}
IMAGES_PER_CLASS, FOLDS, EPOCHS = 90, 3, 8
# Results of finished runs are appended to this file and not repeated, so that a stopped benchmark can continue.
RESULTS = "DATA_QUALITY_RESULTS"
# Steps whose margins are fetched together, as at a print step.
_PRINT_STEPS, _REPETITIONS = 10, 30


def measure_labels(folder: Path) -> list[Target]:
    """Flip labels of digits, and return the mean AUROC of both methods over all seeds, kinds and rates."""
    saved = Path(os.environ[RESULTS]) if RESULTS in os.environ else folder / "results.jsonl"
    done: list[dict[str, Any]] = []
    if saved.exists():
        done = [json.loads(line) for line in saved.read_text(encoding="utf-8").splitlines()]
    for seed in SEEDS:
        root = folder / f"digits-{seed}"
        write_sample(root, IMAGES_PER_CLASS, 10, seed=seed)
        for kind in ("random", "confusable"):
            for rate in RATES:
                if any((one["seed"], one["kind"], one["rate"]) == (seed, kind, rate) for one in done):
                    continue
                started = time.perf_counter()
                found = _measure_flips(folder / f"{seed}-{kind}-{rate}", root, seed, kind, rate)
                seconds = round(time.perf_counter() - started, 1)
                done.append({"seed": seed, "kind": kind, "rate": rate, "seconds": seconds, **found})
                with saved.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                print(json.dumps(done[-1]), flush=True)
    table = pd.DataFrame(done)
    print(table.groupby(["kind", "rate"]).mean(numeric_only=True).round(4).to_string(), flush=True)
    return [
        Target(f"{name}, {kind} wrong labels, {rate:.0%}: AUROC, mean of 3 seeds", group[column].mean(), 0.97, True)
        for (kind, rate), group in table.groupby(["kind", "rate"])
        for name, column in (("margins", "margin_auroc"), ("confident learning", "confident_auroc"))
    ]


def _measure_flips(folder: Path, root: Path, seed: int, kind: str, rate: float) -> dict[str, float]:
    """Train three folds with flipped labels, and return AUROC and precision at the true count for both methods."""
    given = read_list_file(root / "train_list.txt", 10)
    random = np.random.default_rng([seed, round(100 * rate)])
    labels = given.labels.copy()
    flipped = random.choice(len(labels), round(rate * len(labels)), replace=False)
    if kind == "random":
        labels[flipped] = (labels[flipped] + random.integers(1, 10, len(flipped))) % 10
    else:
        labels[flipped] = [CONFUSABLE[label] for label in labels[flipped]]
    is_wrong = labels != given.labels
    lines = np.array([f"train/{path} {label}\n" for path, label in zip(given.paths, labels, strict=True)])
    fold_of = random.permutation(np.arange(len(labels)) % FOLDS)
    parts, margins = [], np.full(len(labels), np.nan)
    for fold in range(FOLDS):
        held = fold_of == fold
        config = _train(folder / f"fold-{fold}", root, lines[~held], lines[held], seed)
        # Each image gets its margin from a single training run, although two runs train on it.
        margins_file = write_margins(config)
        assert margins_file is not None
        recorded = pd.read_parquet(margins_file)["margin"].to_numpy()
        margins[fold_of == (fold + 1) % FOLDS] = recorded[fold_of[~held] == (fold + 1) % FOLDS]
        output = Path(config.Global.output_dir)
        evaluate(
            config,
            join_ranks("cpu"),
            Heartbeat(output, 0),
            model=newest_checkpoint(output),
            list_file=Path(config.DataLoader.Eval.dataset.cls_label_path),
        )
        arrays = dict(np.load(output / "predictions.0.npz"))
        parts.append({**arrays, "index": np.flatnonzero(held)[arrays["index"]]})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns = {name: array[np.argsort(columns["index"])] for name, array in columns.items()}
    table = PredictionTable(
        np.array(given.paths, dtype=object),
        columns["label"],
        columns["top_ids"],
        columns["top_probabilities"].astype(np.float64),
        columns["loss"].astype(np.float64),
    )
    issues = find_label_issues(table)
    return {
        "wrong": int(is_wrong.sum()),
        "margin_auroc": _auroc(-margins, is_wrong),
        "margin_precision": _precision(-margins, is_wrong),
        "confident_auroc": _auroc(-score_labels(table), is_wrong),
        "confident_precision": _precision(-score_labels(table), is_wrong),
        "found": len(issues),
        "found_precision": float(is_wrong[issues].mean()),
        "found_recall": float(is_wrong[issues].sum() / is_wrong.sum()),
        "accuracy": float((table.predicted == given.labels).mean()),
    }


def _train(folder: Path, root: Path, train: NDArray[Any], val: NDArray[Any], seed: int) -> TrainingConfig:
    """Train a ResNet18 in this process, without the startup time of ranks, and return its configuration."""
    folder.mkdir(parents=True)
    write_text(folder / "train_list.txt", "".join(train))
    write_text(folder / "val_list.txt", "".join(val))
    training = TrainingParameters.model_validate(
        {
            **{"epochs": EPOCHS, "batch_size_per_rank": 48, "eval_batch_size_per_rank": 100, "seed": seed},
            **{"eval_interval": EPOCHS, "save_interval": EPOCHS, "keep_checkpoints": 1, "print_batch_step": 10},
            "record_margins": True,
            "launch": {"device": "cpu", "devices": [0]},
            "arch": {"name": "ResNet18", "zero_init_residual": True, "batch_norm_momentum": 0.8},
            "optimizer": {"name": "Momentum", "use_nesterov": True, "l2_coeff": 5e-4},
            "lr": {"name": "Cosine", "learning_rate": 0.05, "warmup_epoch": 1},
            "train_transform": {"size": 28, "scale": [0.8, 1.0], "ratio": [0.95, 1.05], "flip": False},
            "eval_transform": {"resize_short": 28, "size": 28},
            "loader": {"num_workers": 0},
        }
    )
    paths = TrainingPaths(root, folder / "train_list.txt", folder / "val_list.txt", folder / "training")
    config = render_training_config(training, 10, paths)
    TrainingRun(config, join_ranks("cpu"), Heartbeat(folder / "training", 0)).execute()
    return config


def _auroc(scores: NDArray[np.float64], is_wrong: NDArray[np.bool_]) -> float:
    """Return the probability that a wrong label has a higher score than a correct one (ties count half)."""
    wrong, right = int(is_wrong.sum()), int((~is_wrong).sum())
    return float((rankdata(scores)[is_wrong].sum() - wrong * (wrong + 1) / 2) / (wrong * right))


def _precision(scores: NDArray[np.float64], is_wrong: NDArray[np.bool_]) -> float:
    """Return the fraction of wrong labels among as many images with the highest scores as there are wrong labels."""
    highest = np.argsort(-scores, kind="stable")[: int(is_wrong.sum())]
    return float(is_wrong[highest].mean())


def measure_margins(_folder: Path) -> list[Target]:
    """Return the time for recording margins as a percentage of the training time, for small and large networks."""
    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.trainer.network import build_network

    targets = []
    for name, classes, side, size in (("ResNet18", 10, 28, 32), ("ResNet50", 1000, 224, 8)):
        network = build_network(ArchConfig(name=name, class_num=classes))
        optimizer = paddle.optimizer.Momentum(0.001, parameters=network.parameters())
        batch = Batch(
            images=paddle.randn([size, 3, side, side]),
            labels=paddle.randint(0, classes, [size]),
            index=paddle.randint(0, 1_281_167, [size]),
        )
        steps = []
        for _ in range(4):
            started = time.process_time()
            logits = network(batch.images)
            loss = paddle.nn.functional.cross_entropy(logits, batch.labels)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            steps.append(time.process_time() - started)
        margins = Margins(1_281_167, join_ranks("cpu"))
        intervals = []
        for _ in range(_REPETITIONS):
            started = time.process_time()
            for _ in range(_PRINT_STEPS):
                margins.add(logits, batch)
            margins.fetch()
            intervals.append((time.process_time() - started) / _PRINT_STEPS)
        share = 100 * statistics.median(intervals) / min(steps)
        what = f"{name}, {classes} classes, {size} images of {side} px per step, one CPU rank"
        targets.append(Target(f"margins: time per step, % of the training step ({what})", share, 1.0))
    return targets
