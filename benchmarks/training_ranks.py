"""Two ranks against one on the sample: how much faster, and what stands in the way of twice.

Three settings, each rank with a batch of its own and one thread, taken in turn:

- one rank alone;
- two processes that know nothing of each other, each as the one rank: what two cores with one memory can do;
- two ranks: the same, and the gradients summed at every step (gloo).

The second over the first is what the machine costs, the third over the second what the meeting costs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from targets import Target
from training_recipe import BATCH_SIZE, make_config, make_parameters, write_digits

from resnet50_pipeline.events import TrainStep, read_events
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.launch import TRAINER_PROGRAM, build_launch_command
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.training_dir import config_path, events_path, log_dir

ROUNDS = 3
STEPS = 20  # of each rank
PRINT_STEP = 4
# Two ranks on two cores cannot be twice as fast as one: they share caches and memory, and meet at every step.
LEAST_SPEEDUP = 1.2


def measure(folder: Path) -> list[Target]:
    """Return the targets of two ranks; takes about four minutes."""
    dataset = write_digits(folder / "digits", train_images_per_class=2 * STEPS * BATCH_SIZE // 10)
    rounds = [measure_round(folder / f"round-{number}", dataset) for number in range(ROUNDS)]
    alone, apart, together = (statistics.median(one[name] for one in rounds) for name in ("alone", "apart", "together"))
    print(
        f"images/s: one rank {alone:.1f}; two processes apart {apart:.1f} ({apart / alone:.2f} x, of 2 at best: they "
        f"share the machine's memory and caches); two ranks {together:.1f} ({together / alone:.2f} x: gradients of "
        f"94 MB summed over gloo take {1 - together / apart:.0%} of that)"
    )
    return [Target("two ranks / one, images a second", together / alone, LEAST_SPEEDUP, at_least=True)]


def measure_round(folder: Path, dataset: DatasetParameters) -> dict[str, float]:
    """Return the images a second of the three settings."""
    half = write_half(dataset)
    rates = {
        "alone": run_together([start_one(folder / "alone", dataset, half)]),
        "apart": run_together([start_one(folder / f"apart-{number}", dataset, half) for number in range(2)]),
        "together": run_together([start_two(folder / "together", dataset)]),
    }
    print(f"{folder.name}:", ", ".join(f"{name} {rate:.1f} images/s" for name, rate in rates.items()))
    return rates


def write_half(dataset: DatasetParameters) -> Path:
    """Write a list with every second train image, so that one rank has as many steps as each of two."""
    path = dataset.root / "half_list.txt"
    lines = (dataset.root / "train_list.txt").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[::2]))
    return path


def start_one(output_dir: Path, dataset: DatasetParameters, train_list: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start one rank without a launcher."""
    training = make_parameters(output_dir, print_batch_step=PRINT_STEP)
    path = config_path(output_dir)
    write_text(path, make_config(training, dataset, train_list).to_yaml())
    arguments = [sys.executable, str(TRAINER_PROGRAM), "train", "--config", str(path)]
    return start(arguments, {**os.environ, "PYTHONSAFEPATH": "1"}, output_dir), output_dir


def start_two(output_dir: Path, dataset: DatasetParameters) -> tuple[subprocess.Popen[bytes], Path]:
    """Start two ranks, as the pipeline does."""
    training = make_parameters(output_dir, ranks=2, print_batch_step=PRINT_STEP)
    path = config_path(output_dir)
    write_text(path, make_config(training, dataset, dataset.root / "train_list.txt").to_yaml())
    command = build_launch_command(training.launch, log_dir(output_dir), ["train", "--config", str(path)])
    return start(list(command.arguments), command.environment, output_dir), output_dir


def start(arguments: list[str], environment: Mapping[str, str], output_dir: Path) -> subprocess.Popen[bytes]:
    """Start a process whose words go to a file."""
    with (output_dir / "output.txt").open("wb") as output:
        return subprocess.Popen(arguments, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)


def run_together(started: list[tuple[subprocess.Popen[bytes], Path]]) -> float:
    """Wait for all, and return the images a second of all of them, without each one's first steps, which allocate."""
    rates = []
    for process, output_dir in started:
        if process.wait() != 0:
            raise SystemExit((output_dir / "output.txt").read_text())
        events, _ = read_events(events_path(output_dir))
        of_steps = [event.images_per_second for event in events if isinstance(event, TrainStep)]
        rates.append(statistics.median(of_steps[1:]))
    return sum(rates)
