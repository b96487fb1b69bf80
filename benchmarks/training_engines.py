"""An epoch of the native engine against one of PaddleClas' own, on the same YAML and one CPU rank.

`python benchmarks/training_engines.py [--check]` with PADDLECLAS_HOME set to a checkout; without one nothing is
measured. ResNet50, 32-pixel images, one thread and one loader process; the engines take turns. A whole epoch is
training, evaluation and saving; it is taken from the times of the events, the first epoch left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from targets import Target, report

from resnet50_pipeline.events import EpochEnd, read_events
from resnet50_pipeline.imagenet.list_files import prefix_list, read_list_file
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.training_dir import events_path

PAIRS = 2
EPOCHS = 3
CLASSES = 10
ENGINES = ("native", "paddleclas")


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target does not hold")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        return report(measure(Path(folder)), is_checked=options.check)


def measure(folder: Path) -> list[Target]:
    """Return native / paddleclas for a whole epoch, for its steps, and for what is between the steps of two epochs."""
    if "PADDLECLAS_HOME" not in os.environ:
        print("engines: not measured, PADDLECLAS_HOME names no checkout of PaddleClas", file=sys.stderr)
        return []
    dataset = write_dataset(folder / "digits")
    runs: dict[str, list[tuple[float, float]]] = {engine: [] for engine in ENGINES}
    for pair in range(PAIRS):
        for engine in ENGINES:
            runs[engine].append(time_epochs(folder / f"{engine}-{pair}", engine, dataset))
    whole, steps = (
        {engine: statistics.median(run[part] for run in runs[engine]) for engine in ENGINES} for part in (0, 1)
    )
    between = {engine: whole[engine] - steps[engine] for engine in ENGINES}
    for engine in ENGINES:
        print(f"{engine}: epoch {whole[engine]:.2f} s, of it steps {steps[engine]:.2f} s", file=sys.stderr)
    return [
        Target("native epoch / epoch of engine paddleclas", whole["native"] / whole["paddleclas"], 1.0),
        Target("  of it the steps", steps["native"] / steps["paddleclas"], 1.05),
        Target("  of it evaluation and saving", between["native"] / between["paddleclas"], 1.0),
    ]


def write_dataset(root: Path) -> DatasetParameters:
    """Write the sample's digits, and lists as PaddleClas reads them."""
    write_sample(root, train_images_per_class=24, val_images_per_class=10)
    for split in ("train", "val"):
        path = root / f"{split}_list.txt"
        path.write_bytes(prefix_list(read_list_file(path, CLASSES), split).data)
    return DatasetParameters(root=root, class_num=CLASSES)


def time_epochs(output_dir: Path, engine: str, dataset: DatasetParameters) -> tuple[float, float]:
    """Train, and return the seconds of a whole epoch and of its steps, of the epochs after the first."""
    training = TrainingParameters.model_validate(
        {
            "engine": engine,
            "output_dir": output_dir,
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
    config = output_dir.with_suffix(".yaml")
    lists = (dataset.root / f"{split}_list.txt" for split in ("train", "val"))
    config.write_text(render_training_config(training, dataset, *lists).to_yaml())
    train_network(config, training)
    events, _ = read_events(events_path(output_dir))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    whole = (ends[-1].time - ends[0].time) / (len(ends) - 1)
    return whole, statistics.mean(event.seconds for event in ends[1:])


if __name__ == "__main__":
    sys.exit(main())
