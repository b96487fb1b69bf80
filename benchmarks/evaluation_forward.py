"""Compares the throughput of the evaluation with that of the bare network. Part of `evaluation.py`.

Uses ResNet50 with images of 64 x 64 pixels on one CPU rank with one thread. `bare` runs only the network, on batches in
memory. The evaluation reads, decodes and transforms the images, runs the network and keeps the top 5 classes: once with
one DataLoader worker and once with none, so that the rank itself loads the images. `loader` runs the DataLoader worker
without the network; this rate limits every evaluation with one worker. The tasks alternate, and each figure is the
median over the rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from evaluation_sample import CLASSES, run_with_paddle, transform_ops, write_digits
from targets import Target

IMAGES, BATCH, SIZE, ROUNDS = 96, 16, 64, 5
RATIO = 0.95


def measure(folder: Path) -> list[Target]:
    """Compare in a separate process and return the target."""
    write_digits(folder, IMAGES)
    figures = run_with_paddle(Path(__file__), folder)
    print(
        f"forward: bare {figures['bare']:.1f} images/s; evaluation {figures['worker']:.1f} images/s with one worker, "
        f"{figures['alone']:.1f} without ({figures['alone_ratio']:.2f} of bare); "
        f"limit of one worker {figures['loader']:.1f} images/s"
    )
    return [Target("evaluation / bare forward, images/s (median of rounds)", figures["ratio"], RATIO, at_least=True)]


def compare(folder: Path) -> None:
    """Measure every task and print the figures as JSON."""
    import paddle

    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.recipe.data_loader import SplitConfig
    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.trainer.data.dataset import ListDataset
    from resnet50_pipeline.trainer.data.loader import Loader
    from resnet50_pipeline.trainer.data.sampling import EvalBatches
    from resnet50_pipeline.trainer.evaluation import predict
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.network import build_network
    from resnet50_pipeline.trainer.ranks import Ranks

    entries = read_list_file(folder / "val_list.txt", class_num=CLASSES)
    ranks, heartbeat = Ranks(0, 1, "cpu"), Heartbeat(folder, 0)
    network = build_network(ArchConfig(name="ResNet50", class_num=CLASSES))
    network.eval()

    def make_loader(workers: int) -> Loader:
        split = SplitConfig.model_validate(
            {
                "dataset": {
                    "image_root": str(folder),
                    "cls_label_path": str(folder / "val_list.txt"),
                    "transform_ops": transform_ops(SIZE),
                },
                "sampler": {"batch_size": BATCH, "shuffle": False},
                "loader": {"num_workers": workers},
            }
        )
        return Loader(ListDataset(entries, split, 0), EvalBatches(len(entries), BATCH, ranks), split)

    loaders = {"worker": make_loader(1), "alone": make_loader(0)}
    batches = [batch.images for batch in loaders["alone"]]

    def bare() -> None:
        with paddle.no_grad():
            for images in batches:
                network(images).numpy()

    def load() -> None:
        for _ in loaders["worker"]:
            pass

    tasks = {"bare": bare, "loader": load} | {
        name: (lambda loader=loader: predict(network, loader, 5, heartbeat)) for name, loader in loaders.items()
    }
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS + 1):
        rounds.append({name: IMAGES / seconds_of(task) for name, task in tasks.items()})
    del rounds[0]  # a warm-up, which starts the workers and allocates Paddle's buffers
    figures = {name: statistics.median(one[name] for one in rounds) for name in tasks}
    figures["ratio"] = statistics.median(one["worker"] / one["bare"] for one in rounds)
    figures["alone_ratio"] = statistics.median(one["alone"] / one["bare"] for one in rounds)
    print(json.dumps(figures), flush=True)


def seconds_of(task: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


if __name__ == "__main__":
    compare(Path(sys.argv[1]))
