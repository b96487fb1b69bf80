"""The evaluation's throughput against the bare network's: `measure(folder)` gives the targets for `evaluation.py`.

One CPU rank of one thread, ResNet50 at 64 pixels. Bare is the network alone on batches that lie in memory; the
evaluation reads, decodes, transforms, forwards, and keeps the best five, with one loader process and with none, where
the rank itself loads. The loader process alone says where it ends: a network that is faster waits for it (the case that
is bound by the loader; more processes then help). All in turn, medians of rounds.
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
    """Compare in a process of its own."""
    write_digits(folder, IMAGES)
    figures = run_with_paddle(Path(__file__), folder)
    print(
        f"forward: bare {figures['bare']:.1f} images/s, evaluation {figures['worker']:.1f} with a loader process, "
        f"{figures['alone']:.1f} without ({figures['alone_ratio']:.2f} of bare); a loader process alone gives "
        f"{figures['loader']:.1f} images/s, and no evaluation is faster than that a process"
    )
    return [Target("evaluation / bare forward, images/s (median of rounds)", figures["ratio"], RATIO, at_least=True)]


def compare(folder: Path) -> None:
    """Do the work and print its figures."""
    import paddle

    from resnet50_pipeline.imagenet.list_files import read_list_file
    from resnet50_pipeline.trainer.data import ListDataset, Loader
    from resnet50_pipeline.trainer.evaluation import predict
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.network import build_network
    from resnet50_pipeline.trainer.ranks import Ranks
    from resnet50_pipeline.trainer.sampling import EvalBatches
    from resnet50_pipeline.training_config import ArchConfig, SplitConfig

    entries = read_list_file(folder / "val_list.txt", class_num=CLASSES)
    ranks, heartbeat = Ranks(0, 1, "cpu"), Heartbeat(folder, 0)
    network = build_network(ArchConfig(name="ResNet50", class_num=CLASSES))
    network.eval()

    def loader_of(workers: int) -> Loader:
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

    loaders = {"worker": loader_of(1), "alone": loader_of(0)}
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
    del rounds[0]  # the loader's processes and Paddle's buffers come into being
    figures = {name: statistics.median(one[name] for one in rounds) for name in tasks}
    figures["ratio"] = statistics.median(one["worker"] / one["bare"] for one in rounds)
    figures["alone_ratio"] = statistics.median(one["alone"] / one["bare"] for one in rounds)
    print(json.dumps(figures), flush=True)


def seconds_of(task: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


if __name__ == "__main__":
    compare(Path(sys.argv[1]))
