"""Measures the sample run and the overhead of Kedro: `python benchmarks/orchestration.py [--check] [--pairs N]`.

Both measurements use a copy of the project in a temporary folder:

- One `kedro run` of the committed sample: wall time, memory of all its processes, top-1, and the time outside the ranks
  (every node except train_network and predict_val_list).
- Pairs of `kedro run --pipelines training` and the launcher started by hand with the same rendered YAML file, one epoch
  each. The two alternate, so that they run under the same load; the benchmark compares the lifetimes of the launchers.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil
from targets import Target, report

from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM

PROJECT = Path(__file__).parents[1]
RANK_NODES = ("train_network", "predict_val_list")
_NODE = re.compile(r"^(\S+ \S+) INFO\s+\d+/\d+ (\w+)")


def main() -> int:
    """Measure, print the targets, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs for the comparison with the bare launcher")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        project = copy_project(Path(folder) / "project")
        targets = [*measure_sample_run(project), measure_overhead(project, options.pairs)]
    return report(targets, is_checked=options.check)


def copy_project(root: Path) -> Path:
    """Copy the files that a run needs and return the path of the copy."""
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(PROJECT / "pyproject.toml", root)
    return root


def environment(project: Path) -> dict[str, str]:
    """Return the environment variables for commands in the copy of the project."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(project / "src")}


def measure_sample_run(project: Path) -> list[Target]:
    """Run the committed sample once and return its targets."""
    started = time.time()
    log = project / "run.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["kedro", "run"], cwd=project, env=environment(project), stdout=output, stderr=subprocess.STDOUT
        )
        memory = peak_memory_bytes(process)
    ended = time.time()
    if process.returncode != 0:
        raise SystemExit(log.read_text())
    nodes = [match.groups() for line in log.read_text().splitlines() if (match := _NODE.match(line))]
    starts = [datetime.strptime(when, "%Y-%m-%d %H:%M:%S").astimezone().timestamp() for when, _ in nodes]
    names = [name for _, name in nodes]
    seconds = dict(zip(names, [b - a for a, b in zip(starts, [*starts[1:], ended], strict=True)], strict=True))
    in_ranks = sum(seconds[name] for name in RANK_NODES)
    metrics = json.loads((project / "data/sample/08_reporting/metrics.json").read_text())
    print("seconds by node:", ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    return [
        Target("sample kedro run, minutes", (ended - started) / 60, 8),
        Target("peak memory of all processes, GiB", memory / 2**30, 4),
        Target("top-1 on the held-out digits", metrics["top1"], 0.93, at_least=True),
        Target("held-out digits", metrics["images"], 500, at_least=True),
        Target("seconds outside the ranks", ended - started - in_ranks, 60),
    ]


def peak_memory_bytes(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process and return the peak of the proportional memory (PSS) of the process and its descendants."""
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        total = 0
        for member in [root, *root.children(recursive=True)]:
            try:
                total += member.memory_full_info().pss
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(1.0)
    return peak


def measure_overhead(project: Path, pairs: int) -> Target:
    """Compare the ranks in `kedro run` with the same launcher started by hand, alternating."""
    ratios = []
    output_dir = project / "data/sample/06_models/training"
    for number in range(pairs):
        orchestrated, by_hand = run_orchestrated(project), run_by_hand(project, output_dir)
        ratios.append(orchestrated / by_hand)
        print(f"pair {number + 1}: kedro {orchestrated:.1f} s, by hand {by_hand:.1f} s, ratio {ratios[-1]:.3f}")
    return Target("time of the ranks in kedro run / started by hand (median of pairs)", statistics.median(ratios), 1.03)


def run_orchestrated(project: Path) -> float:
    """Return the lifetime of the launcher in `kedro run --pipelines training`, in seconds."""
    command = ["kedro", "run", "--pipelines", "training", "--params", "training.epochs=1,training.lr.warmup_epoch=0"]
    watched: list[float] = []
    process = subprocess.Popen(
        command, cwd=project, env=environment(project), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watcher = threading.Thread(target=lambda: watched.append(launcher_seconds(process.pid)))
    watcher.start()
    if process.wait() != 0:
        raise SystemExit("kedro run --pipelines training failed")
    watcher.join()
    return watched[0]


def launcher_seconds(pid: int) -> float:
    """Return the lifetime in seconds of the descendant of `pid` that runs paddle.distributed.launch."""
    parent = psutil.Process(pid)
    while True:
        for child in parent.children(recursive=True):
            if "paddle.distributed.launch" in child.cmdline():
                started = child.create_time()
                psutil.wait_procs([child])
                return time.time() - started
        time.sleep(0.05)


def run_by_hand(project: Path, output_dir: Path) -> float:
    """Return the lifetime in seconds of a launcher that runs the configuration of the previous `kedro run`."""
    config = project / "by_hand.yaml"
    shutil.copy(output_dir / "training_config.yaml", config)
    shutil.rmtree(output_dir)
    output_dir.mkdir()
    arguments = [sys.executable, "-u", "-m", "paddle.distributed.launch", "--nproc_per_node=2"]
    arguments += [f"--log_dir={output_dir / 'log'}", str(TRAINER_PROGRAM), "train", "--config", str(config)]
    started = time.time()
    subprocess.run(
        arguments,
        cwd=project,
        env={**environment(project), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.time() - started


if __name__ == "__main__":
    sys.exit(main())
