"""Measures the speedup of two ranks over one on the sample, and why it is less than 2.

Three settings alternate; each rank has its own batch and one thread:

- `alone`: one rank.
- `apart`: two independent processes with one rank each, which shows what two cores with shared memory can reach.
- `together`: two ranks, which also sum their gradients at every step (gloo).

`apart` / `alone` shows the effect of shared memory and caches, and `together` / `apart` shows the cost of the
all-reduce.

Finally, a rank is killed, and the benchmark measures the time until the error that names the rank.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from targets import Target
from training_recipe import BATCH_SIZE, make_config, make_parameters, write_digits

from resnet50_pipeline.events import AnyEvent, TrainStep, read_events
from resnet50_pipeline.exceptions import RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, build_launch_command
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.training_dir import config_path, events_path, log_dir

ROUNDS = 3
STEPS = 20  # per rank
PRINT_STEP = 4
HALF_LIST = "half_list.txt"
# Two ranks on two cores cannot reach a speedup of 2: they share caches and memory, and synchronize at every step.
MIN_SPEEDUP = 1.2
# With NCCL, the other ranks would wait for the killed one until they time out after several minutes.
SECONDS_TO_ERROR = 10


def measure(folder: Path) -> list[Target]:
    """Return the targets for two ranks. This takes about four minutes."""
    root = folder / "digits"
    write_digits(root, train_images_per_class=2 * STEPS * BATCH_SIZE // 10)
    rounds = [measure_round(folder / f"round-{number}", root) for number in range(ROUNDS)]
    alone, apart, together = (statistics.median(one[name] for one in rounds) for name in ("alone", "apart", "together"))
    print(
        f"images/s: one rank {alone:.1f}; two independent processes {apart:.1f} ({apart / alone:.2f} x; at most 2 x, "
        f"because they share memory and caches); two ranks {together:.1f} ({together / alone:.2f} x; "
        f"the all-reduce of 94 MB of gradients over gloo costs {1 - together / apart:.0%})"
    )
    seconds = statistics.median(measure_kill(folder / f"kill-{number}", root) for number in range(ROUNDS))
    return [
        Target("two ranks / one rank, images/s", together / alone, MIN_SPEEDUP, at_least=True),
        Target("seconds from the SIGKILL of a rank to the error that names it", seconds, SECONDS_TO_ERROR),
    ]


def measure_round(folder: Path, root: Path) -> dict[str, float]:
    """Return the images/s of the three settings, keyed by name."""
    write_half(root)
    rates = {
        "alone": run_together([start_one(folder / "alone", root)]),
        "apart": run_together([start_one(folder / f"apart-{number}", root) for number in range(2)]),
        "together": run_together([start_two(folder / "together", root)]),
    }
    print(f"{folder.name}:", ", ".join(f"{name} {rate:.1f} images/s" for name, rate in rates.items()))
    return rates


def measure_kill(output_dir: Path, root: Path) -> float:
    """Return the seconds from the SIGKILL of rank 1 in a training step to the error that names the rank."""
    training = make_parameters(ranks=2, print_batch_step=1)
    path = config_path(output_dir)
    write_text(path, make_config(training, root, output_dir).to_yaml())
    command = build_launch_command(training.launch, log_dir(output_dir), ["train", "--config", str(path)])
    killed: list[float] = []

    def kill_at_first_step(event: AnyEvent) -> None:
        if isinstance(event, TrainStep) and not killed:
            found = [one for one in psutil.Process().children(recursive=True) if _rank_of(one) == "1"]
            killed.append(time.monotonic())
            found[0].send_signal(signal.SIGKILL)

    try:
        run_ranks(command, output_dir, log_dir(output_dir), 300.0, ranks=2, on_event=kill_at_first_step)
    except RankFailedError as error:
        seconds = time.monotonic() - killed[0]
        assert "rank 1" in str(error), error
        print(f"{output_dir.name}: {seconds:.1f} s")
        return seconds
    raise SystemExit("the run ended although a rank was killed")


def _rank_of(process: psutil.Process) -> str | None:
    is_launcher = "paddle.distributed.launch" in process.cmdline()
    rank: str | None = process.environ().get("PADDLE_TRAINER_ID")
    return None if is_launcher else rank


def write_half(root: Path) -> None:
    """Write a list with every second train image, so that one rank has as many steps as each of two ranks."""
    lines = (root / "train_list.txt").read_text().splitlines(keepends=True)
    (root / HALF_LIST).write_text("".join(lines[::2]))


def start_one(output_dir: Path, root: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start one rank without a launcher, and return the process and its output folder."""
    training = make_parameters(print_batch_step=PRINT_STEP)
    path = config_path(output_dir)
    write_text(path, make_config(training, root, output_dir, HALF_LIST).to_yaml())
    arguments = [sys.executable, str(TRAINER_PROGRAM), "train", "--config", str(path)]
    return start(arguments, {**os.environ, "PYTHONSAFEPATH": "1"}, output_dir), output_dir


def start_two(output_dir: Path, root: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start two ranks with the launcher, as the pipeline does, and return the process and its output folder."""
    training = make_parameters(ranks=2, print_batch_step=PRINT_STEP)
    path = config_path(output_dir)
    write_text(path, make_config(training, root, output_dir).to_yaml())
    command = build_launch_command(training.launch, log_dir(output_dir), ["train", "--config", str(path)])
    return start(list(command.arguments), command.environment, output_dir), output_dir


def start(arguments: list[str], environment: Mapping[str, str], output_dir: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes its output to `output.txt` in the output folder."""
    with (output_dir / "output.txt").open("wb") as output:
        return subprocess.Popen(arguments, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)


def run_together(started: list[tuple[subprocess.Popen[bytes], Path]]) -> float:
    """Wait for the processes and return their total images/s.

    The first interval of each process is skipped, because its steps allocate memory.
    """
    rates = []
    for process, output_dir in started:
        if process.wait() != 0:
            raise SystemExit((output_dir / "output.txt").read_text())
        events = read_events(events_path(output_dir))
        interval_rates = [event.images_per_second for event in events if isinstance(event, TrainStep)]
        rates.append(statistics.median(interval_rates[1:]))
    return sum(rates)
