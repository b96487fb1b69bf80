"""Compares an epoch of the native engine with one of PaddleClas' engine, using the same YAML file on one CPU rank.

Run `python benchmarks/training_engines.py [--check]` with PADDLECLAS_HOME set to a checkout; without one, nothing is
measured. Both engines train ResNet50 on images of 32 x 32 pixels with one thread and one DataLoader worker,
alternating. A whole epoch consists of training, evaluation and saving; its duration is computed from the times of the
events, excluding the first epoch. The CPU time covers all processes of a run from their start, and is more reliable on
a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

from targets import Target, report

from resnet50_pipeline.events import EpochEnd, read_events
from resnet50_pipeline.imagenet.lists.files import prefix_list, read_list_file
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_dir import events_path

PAIRS = 2
EPOCHS = 3
CLASSES = 10
ENGINES = ("native", "paddleclas")


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        return report(measure(Path(folder)), is_checked=options.check)


def measure(folder: Path) -> list[Target]:
    """Return native / paddleclas for a whole epoch, for its steps, for evaluation and saving, and for the CPU time."""
    if "PADDLECLAS_HOME" not in os.environ:
        print("engines: skipped: PADDLECLAS_HOME is not set to a checkout of PaddleClas", file=sys.stderr)
        return []
    write_dataset(folder / "digits")
    runs: dict[str, list[Cost]] = {engine: [] for engine in ENGINES}
    for pair in range(PAIRS):
        for engine in ENGINES:
            runs[engine].append(measure_run(folder / f"{engine}-{pair}", engine, folder / "digits"))
    native, upstream = (median_of(runs[engine]) for engine in ENGINES)
    for engine, cost in zip(ENGINES, (native, upstream), strict=True):
        print(f"{engine}: {cost}", file=sys.stderr)
    return [
        Target("native / paddleclas, whole epoch", native.epoch_seconds / upstream.epoch_seconds, 1.0),
        Target("native / paddleclas, steps only", native.steps_seconds / upstream.steps_seconds, 1.05),
        Target(
            "native / paddleclas, evaluation and saving only", native.between_seconds / upstream.between_seconds, 1.0
        ),
        Target("native / paddleclas, total CPU time", native.cpu_seconds / upstream.cpu_seconds, 1.0),
    ]


@dataclass(frozen=True)
class Cost:
    """Mean seconds of an epoch and of its steps, excluding the first epoch, and the CPU seconds of all processes."""

    epoch_seconds: float
    steps_seconds: float
    cpu_seconds: float

    @property
    def between_seconds(self) -> float:
        """Seconds between the steps of two epochs: evaluation, saving and the rest."""
        return self.epoch_seconds - self.steps_seconds


def median_of(costs: list[Cost]) -> Cost:
    """Return the median of every figure."""
    return Cost(*(statistics.median(figures) for figures in zip(*map(astuple, costs), strict=True)))


def write_dataset(root: Path) -> None:
    """Write the sample's digits and list files with the path prefixes that PaddleClas expects."""
    write_sample(root, train_images_per_class=24, val_images_per_class=10)
    for split in ("train", "val"):
        path = root / f"{split}_list.txt"
        path.write_bytes(prefix_list(read_list_file(path, CLASSES), split).data)


def measure_run(output_dir: Path, engine: str, root: Path) -> Cost:
    """Train with an engine and return the cost of the run."""
    training = TrainingParameters.model_validate(
        {
            "engine": engine,
            "seed": 1,
            "epochs": EPOCHS,
            "batch_size_per_rank": 16,
            "eval_batch_size_per_rank": 50,
            "print_batch_step": 5,
            "launch": {"device": "cpu", "devices": [0]},
            "lr": {"name": "Cosine", "learning_rate": 0.01},
            "train_transform": {"size": 32},
            "eval_transform": {"resize_short": 32, "size": 32},
            "loader": {"num_workers": 1},
        }
    )
    paths = TrainingPaths(root, root / "train_list.txt", root / "val_list.txt", output_dir)
    config = render_training_config(training, CLASSES, paths)
    cpu_before = cpu_seconds_of_children()
    train_network(config, training)
    cpu_seconds = cpu_seconds_of_children() - cpu_before
    events = read_events(events_path(output_dir))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    whole = (ends[-1].time - ends[0].time) / (len(ends) - 1)
    return Cost(whole, statistics.mean(event.seconds for event in ends[1:]), cpu_seconds)


def cpu_seconds_of_children() -> float:
    """Return the CPU time of all descendants of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
