"""Compares top-1 and top-5 with scikit-learn's for the same network. Part of `evaluation.py`.

Uses a `.pdparams` file with random weights, and 71 images, which is not a multiple of 2 or 3. The scores for
scikit-learn come from a process that uses only the network and the transform, not the evaluation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from evaluation_sample import CLASSES, run_with_paddle, transform_ops, write_digits
from targets import Target

IMAGES, SIZE = 71, 32
RANKS = (1, 2, 3)


def measure(folder: Path) -> list[Target]:
    """Return one target per number of ranks: the largest difference between the accuracies and scikit-learn's."""
    from sklearn.metrics import top_k_accuracy_score

    from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
    from resnet50_pipeline.paddleclas.evaluated_model import find_model
    from resnet50_pipeline.paddleclas.prediction import predict_list
    from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
    from resnet50_pipeline.reporting.metrics import compute_metrics

    list_file = write_digits(folder, IMAGES)
    run_with_paddle(Path(__file__), folder)
    found = np.load(folder / "scores.npz")
    expected = {
        f"top{k}": float(top_k_accuracy_score(found["labels"], found["scores"], k=k, labels=np.arange(CLASSES)))
        for k in (1, 5)
    }
    training = TrainingParameters.model_validate(
        {
            "epochs": 1,
            "batch_size_per_rank": 8,
            "eval_batch_size_per_rank": 8,
            "launch": {"device": "cpu", "devices": [0]},
            "arch": {"name": "ResNet18"},
            "lr": {"name": "Cosine", "learning_rate": 0.1},
            "train_transform": {"size": SIZE},
            "eval_transform": {"resize_short": SIZE, "size": SIZE},
            "loader": {"num_workers": 0},
        }
    )
    paths = TrainingPaths(folder, list_file, list_file, folder / "training")
    model = find_model(folder / "random.pdparams", render_training_config(training, CLASSES, paths), "random")
    targets = []
    for ranks in RANKS:
        launch = LaunchParameters(device="cpu", devices=tuple(range(ranks)))
        table, summary = predict_list(
            model, list_file, launch, batch_size_per_rank=8, work_parent=folder, image_root=folder
        )
        metrics = compute_metrics(table, summary)
        difference = max(abs(metrics[name] - value) for name, value in expected.items())
        targets.append(Target(f"top-1 and top-5 on {ranks} rank(s), difference from scikit-learn's", difference, 0.0))
    return targets


def score(folder: Path) -> None:
    """Write random weights to `random.pdparams` and the network's scores for every image to `scores.npz`."""
    import paddle

    from resnet50_pipeline.imaging.operators import build_transform
    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.trainer.network import build_network

    paddle.seed(1)
    network = build_network(ArchConfig(name="ResNet18", class_num=CLASSES))
    network.eval()
    paddle.save(network.state_dict(), str(folder / "random.pdparams"))
    transform = build_transform(transform_ops(SIZE))
    lines = [line.split() for line in (folder / "val_list.txt").read_text().splitlines()]
    with paddle.no_grad():
        rows = [
            network(paddle.to_tensor(transform((folder / path).read_bytes(), None)[None])).numpy() for path, _ in lines
        ]
    np.savez(folder / "scores.npz", scores=np.concatenate(rows), labels=[int(label) for _, label in lines])
    print(json.dumps({}), flush=True)


if __name__ == "__main__":
    score(Path(sys.argv[1]))
