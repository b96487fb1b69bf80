"""Kills a training at random moments, lets it go on, and compares the end with that of a training nobody touched.

    python tests/chaos.py --kills 50

Each time a rank, the launcher, the guard or the program that trains is sent SIGKILL, SIGTERM or SIGINT. Whatever it
was, nothing may be left running; the same command, started again with `training.resume: auto`, must then come to the
same weights, bit for bit, and leave no temporary file. A failure names its seed: `--seed 17 --kills 1` repeats it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from resnet50_pipeline.events import Finished, read_events
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from striped_dataset import build_training_parameters, write_striped_dataset
from training_driver import run_training, start_training

TARGETS = ("rank 0", "rank 1", "launcher", "program", "guard")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ORPHAN_SECONDS = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Kill:
    """Who is sent what, and when: seconds after the start, or after the ranks have begun to train."""

    seed: int
    target: str
    number: signal.Signals
    is_training: bool
    seconds: float
    workers: int

    def __str__(self) -> str:
        since = "training" if self.is_training else "starting"
        return f"seed {self.seed}: {self.number.name} to the {self.target} after {self.seconds:.1f} s of {since}"


@dataclass(frozen=True)
class Unbroken:
    """The training that nobody touches, and how long it takes."""

    training: TrainingParameters
    starting_seconds: float
    training_seconds: float


def train_unbroken(folder: Path, dataset: Path) -> Unbroken:
    """Train two ranks for 18 steps, with a checkpoint set of every second one, and time it."""
    training = build_training_parameters(folder / "training", ranks=2, epochs=6, save_interval_steps=2)
    started = time.time()
    run_training(training, dataset)
    events, _ = read_events(events_path(training.output_dir))
    return Unbroken(training, events[0].time - started, events[-1].time - events[0].time)


def draw_kill(seed: int, unbroken: Unbroken) -> Kill:
    """Return the kill of a seed; targets and signals come round in turn, so that few kills see all of them."""
    draw = random.Random(seed)
    target = TARGETS[seed % len(TARGETS)]
    number = SIGNALS[seed // len(TARGETS) % len(SIGNALS)]
    is_training = draw.random() < 0.75
    longest = unbroken.training_seconds if is_training else unbroken.starting_seconds
    return Kill(seed, target, number, is_training, draw.uniform(0.0, longest), workers=draw.choice((0, 1)))


def kill_and_resume(kill: Kill, whole: TrainingParameters, dataset: Path, folder: Path) -> str:
    """Train in `folder`, kill, resume to the end, compare with `whole`; return how far the killed one had come.

    Raises:
        AssertionError: something is left, an exit code lies, or the weights are others.
    """
    loader = whole.loader.model_copy(update={"num_workers": kill.workers})
    changes = {"output_dir": folder / "training", "resume": "auto", "loader": loader}
    training = whole.model_copy(update=changes)
    program = start_training(training, dataset)
    started = time.monotonic()
    if kill.is_training:
        while program.poll() is None and not read_events(events_path(training.output_dir))[0]:
            time.sleep(0.02)
        started = time.monotonic()
    while program.poll() is None and time.monotonic() - started < kill.seconds:
        time.sleep(0.01)
    while program.poll() is None and (victim := find(kill.target, program.pid, folder)) is None:
        time.sleep(0.01)
    hit = program.poll() is None and victim is not None
    pids = [process.pid for process in processes_of(folder)]
    if hit:
        victim.send_signal(kill.number)
    _, words = program.communicate(timeout=120)
    assert program.returncode in expected_exit_codes(kill, hit=hit), f"exit code {program.returncode}:\n{words}"
    wait_until_nothing_is_left(folder)
    assert not (shared := [path for pid in pids for path in SHARED_MEMORY.glob(f"paddle_{pid}_*")]), shared
    sets = [path.name for path in checkpoint_paths(training.output_dir)]

    run_training(training, dataset)
    events, _ = read_events(events_path(training.output_dir))
    assert isinstance(events[-1], Finished)
    assert_same_weights(whole.output_dir, training.output_dir)
    assert not list(temporary_files(folder)), list(temporary_files(folder))
    wait_until_nothing_is_left(folder)
    return sets[-1] if sets else "no set yet"


def expected_exit_codes(kill: Kill, *, hit: bool) -> set[int]:
    """Return what the program may end with: a training that was over by then ends well."""
    if not hit:
        return {0}
    if kill.target == "program":
        # Killed while Python itself starts, it dies of the signal.
        return {-kill.number, 0} if kill.number == signal.SIGKILL else {128 + kill.number, -kill.number, 0, 1}
    if kill.target.startswith("rank") and kill.number != signal.SIGKILL:
        # All ranks stop together, and those that were not asked themselves say SIGTERM.
        return {128 + kill.number, 128 + signal.SIGTERM, 1, 0}
    if kill.target == "launcher" and kill.number != signal.SIGKILL:
        return {128 + signal.SIGTERM, 1, 0}  # it hands on every signal as SIGTERM
    return {1, 0}


def find(target: str, program: int, folder: Path) -> psutil.Process | None:
    """Return the process of a running training, or None as long as it is not there."""
    if target == "program":
        return psutil.Process(program)
    for process in processes_of(folder):
        try:
            words, rank = process.cmdline(), process.environ().get("PADDLE_TRAINER_ID")
            is_guard = any(word.endswith("guard.py") for word in words)
            is_launcher = "paddle.distributed.launch" in words and not is_guard
            if (
                (target == "guard" and is_guard)
                or (target == "launcher" and is_launcher)
                or (rank is not None and target == f"rank {rank}" and not is_launcher and not is_guard)
            ):
                return process
        except psutil.Error:
            continue
    return None


def processes_of(folder: Path) -> Iterator[psutil.Process]:
    """Yield the living processes that have the folder in their arguments, or work in it."""
    for process in psutil.process_iter():
        try:
            belongs = any(str(folder) in word for word in [process.cwd(), *process.cmdline()])
            if belongs and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def wait_until_nothing_is_left(folder: Path) -> None:
    """Wait for the processes of a training to be gone; fail after the time that fault 32 allows."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := list(processes_of(folder)):
        assert time.monotonic() < deadline, f"left: {[process.cmdline() for process in left]}"
        time.sleep(0.1)


def temporary_files(folder: Path) -> Iterator[Path]:
    """Yield what a killed program had half written."""
    for path in folder.rglob("*"):
        if (path.name.startswith(".") and path.name != ".training.lock") or path.suffix == ".tmp":
            yield path


def assert_same_weights(one: Path, other: Path) -> None:
    """Fail where the newest sets of two trainings differ in a bit."""
    weights = [load_file(checkpoint_paths(folder)[-1] / "weights.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)


def main() -> int:
    """Kill as often as asked; return 1 where a kill was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        dataset = write_striped_dataset(folder / "dataset")
        unbroken = train_unbroken(folder / "whole", dataset)
        print(f"unbroken: {unbroken.starting_seconds:.0f} s to start, {unbroken.training_seconds:.0f} s to train")
        failures = 0
        for seed in range(options.seed, options.seed + options.kills):
            kill = draw_kill(seed, unbroken)
            place = folder / f"kill-{seed}"
            try:
                print(
                    f"{kill}: resumed from {kill_and_resume(kill, unbroken.training, dataset, place)}, same weights",
                    flush=True,
                )
            except AssertionError as error:
                failures += 1
                print(f"{kill}: FAILED: {error}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
    print(f"{options.kills} kills, {failures} not survived")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
