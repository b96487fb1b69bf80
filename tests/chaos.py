"""Kills a training run at random moments, resumes it, and compares it with an uninterrupted run.

    python tests/chaos.py --kills 50

Each kill sends SIGKILL, SIGTERM, SIGINT, or SIGHUP to a rank, the launcher, the guard, or the main program.
No process may be left running. The same command with `training.resume: auto` must then reach the same weights, bit for
bit, and leave no temporary file. A failure prints its seed; `--seed 17 --kills 1` repeats the kill with seed 17.
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
from resnet50_pipeline.exceptions import RETRY_EXIT_CODE
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from striped_dataset import build_training_parameters, write_striped_dataset
from training_driver import run_training, start_training

TARGETS = ("rank 0", "rank 1", "launcher", "program", "guard")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ORPHAN_SECONDS = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Kill:
    """Target, signal and time of a kill, in seconds after the start or after the first step."""

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
class Undisturbed:
    """The uninterrupted training run and its duration."""

    training: TrainingParameters
    starting_seconds: float
    training_seconds: float


def train_undisturbed(folder: Path, dataset: Path) -> Undisturbed:
    """Train two ranks for 18 steps with a checkpoint set every second step, and measure the time."""
    training = build_training_parameters(folder / "training", ranks=2, epochs=6, save_interval_steps=2)
    started = time.time()
    run_training(training, dataset)
    events = read_events(events_path(training.output_dir))
    return Undisturbed(training, events[0].time - started, events[-1].time - events[0].time)


def draw_kill(seed: int, undisturbed: Undisturbed) -> Kill:
    """Return the kill for a seed. Targets and signals rotate, so that few kills cover all of them."""
    draw = random.Random(seed)
    target = TARGETS[seed % len(TARGETS)]
    number = SIGNALS[seed // len(TARGETS) % len(SIGNALS)]
    is_training = draw.random() < 0.75
    longest = undisturbed.training_seconds if is_training else undisturbed.starting_seconds
    return Kill(seed, target, number, is_training, draw.uniform(0.0, longest), workers=draw.choice((0, 1)))


def kill_and_resume(kill: Kill, whole: TrainingParameters, dataset: Path, folder: Path) -> str:
    """Train in `folder`, kill, resume to the end, and compare with `whole`. Return the newest set after the kill.

    Raises:
        AssertionError: if a process or file is left behind, an exit code is wrong, or the weights differ.
    """
    loader = whole.loader.model_copy(update={"num_workers": kill.workers})
    changes = {"output_dir": folder / "training", "resume": "auto", "loader": loader}
    training = whole.model_copy(update=changes)
    program = start_training(training, dataset)
    started = time.monotonic()
    if kill.is_training:
        while program.poll() is None and not read_events(events_path(training.output_dir)):
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
    _, stderr = program.communicate(timeout=120)
    assert program.returncode in expected_exit_codes(kill, hit=hit), f"exit code {program.returncode}:\n{stderr}"
    wait_until_no_process_is_left(folder)
    assert not (shared := [path for pid in pids for path in SHARED_MEMORY.glob(f"paddle_{pid}_*")]), shared
    sets = [path.name for path in checkpoint_paths(training.output_dir)]

    run_training(training, dataset)
    events = read_events(events_path(training.output_dir))
    assert isinstance(events[-1], Finished)
    assert_same_weights(whole.output_dir, training.output_dir)
    assert not list(temporary_files(folder)), list(temporary_files(folder))
    wait_until_no_process_is_left(folder)
    return sets[-1] if sets else "no set yet"


def expected_exit_codes(kill: Kill, *, hit: bool) -> set[int]:
    """Return the possible exit codes. A training run that has already finished exits with 0."""
    if not hit:
        return {0}
    if kill.target == "program":
        # If a signal arrives while Python is starting, it kills the process.
        return {-kill.number, 0} if kill.number == signal.SIGKILL else {128 + kill.number, -kill.number, 0, 1}
    if kill.target.startswith("rank") and kill.number != signal.SIGKILL:
        # All ranks stop together. Ranks that did not receive the signal report SIGTERM.
        return {128 + kill.number, 128 + signal.SIGTERM, RETRY_EXIT_CODE, 1, 0}
    if kill.target == "launcher" and kill.number != signal.SIGKILL:
        return {128 + signal.SIGTERM, RETRY_EXIT_CODE, 1, 0}  # it forwards every signal as SIGTERM
    return {RETRY_EXIT_CODE, 1, 0}


def find(target: str, program: int, folder: Path) -> psutil.Process | None:
    """Return a process of a training run in progress, or None if the process does not exist yet."""
    if target == "program":
        return psutil.Process(program)
    for process in processes_of(folder):
        try:
            arguments, rank = process.cmdline(), process.environ().get("PADDLE_TRAINER_ID")
            is_guard = any(argument.endswith("guard.py") for argument in arguments)
            is_launcher = "paddle.distributed.launch" in arguments and not is_guard
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
    """Yield the running processes whose arguments or working folder contain the folder."""
    for process in psutil.process_iter():
        try:
            belongs = any(str(folder) in text for text in [process.cwd(), *process.cmdline()])
            if belongs and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def wait_until_no_process_is_left(folder: Path) -> None:
    """Wait until all processes of a training run have ended. Fail after the time limit of fault 32."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := list(processes_of(folder)):
        assert time.monotonic() < deadline, f"left: {[process.cmdline() for process in left]}"
        time.sleep(0.1)


def temporary_files(folder: Path) -> Iterator[Path]:
    """Yield the temporary files of a killed program."""
    for path in folder.rglob("*"):
        if (path.name.startswith(".") and path.name != ".training.lock") or path.suffix == ".tmp":
            yield path


def assert_same_weights(one: Path, other: Path) -> None:
    """Fail if the newest sets of two training runs differ."""
    weights = [load_file(checkpoint_paths(folder)[-1] / "weights.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)


def main() -> int:
    """Run the kills. Return 1 if a resumed run differs from the uninterrupted run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        dataset = write_striped_dataset(folder / "dataset")
        undisturbed = train_undisturbed(folder / "whole", dataset)
        print(
            f"undisturbed: {undisturbed.starting_seconds:.0f} s to start, {undisturbed.training_seconds:.0f} s to train"
        )
        failures = 0
        for seed in range(options.seed, options.seed + options.kills):
            kill = draw_kill(seed, undisturbed)
            kill_dir = folder / f"kill-{seed}"
            try:
                newest_set = kill_and_resume(kill, undisturbed.training, dataset, kill_dir)
                print(f"{kill}: resumed from {newest_set}, same weights", flush=True)
            except AssertionError as error:
                failures += 1
                print(f"{kill}: FAILED: {error}", flush=True)
            shutil.rmtree(kill_dir, ignore_errors=True)
    print(f"{options.kills} kills, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
