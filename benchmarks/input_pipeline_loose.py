"""Measures how fast loose JPEG files become training batches. Part of `input_pipeline.py`.

Each peer is a process with its own loader (see `input_pipeline_peers.py`). The peers alternate and load one epoch per
round; a ratio is the median over the rounds. The loaders run on one core with one worker, and on two cores with two
workers.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from input_pipeline_photographs import write_photographs
from targets import Target

from resnet50_pipeline.imaging.region import can_decode_regions

IMAGES, ROUNDS = 960, 5
EXACT, UINT8, PEERS_OF_REGION = 1.6, 1.7, 1.0


class Cost(NamedTuple):
    """Throughput and CPU time per image of one epoch."""

    images_per_second: float
    cpu_milliseconds: float


def measure(folder: Path) -> list[Target]:
    """Return the targets for one core and, if available, for two."""
    write_photographs(folder, IMAGES)
    targets = []
    for cores in (1, 2):
        if len(os.sched_getaffinity(0)) >= cores:
            targets += _measure_on(folder, cores)
    return targets


def _measure_on(folder: Path, cores: int) -> list[Target]:
    reference = "upstream" if "PADDLECLAS_HOME" in os.environ else "plain"
    found = take_turns([reference, "pil", "exact", "uint8", *_optional("region"), *_optional("dali")], folder, cores)
    cores_text = f"{cores} core{'s' if cores > 1 else ''}"
    for peer, costs in found.items():
        rate = statistics.median(cost.images_per_second for cost in costs)
        cpu = statistics.median(cost.cpu_milliseconds for cost in costs)
        print(f"loose, {cores_text}: {peer} {rate:.0f} images/s, {cpu:.2f} ms of CPU time per image")

    def target(ours: str, peer: str, bound: float) -> Target:
        ratio = statistics.median(
            one.images_per_second / other.images_per_second for one, other in zip(found[ours], found[peer], strict=True)
        )
        return Target(f"{ours} / {peer}, images/s on {cores_text}", ratio, bound, at_least=True)

    targets = [target("exact", reference, EXACT), target("uint8", reference, UINT8)]
    if "region" in found:
        targets += [target("region", peer, PEERS_OF_REGION) for peer in ("dali", "pil") if peer in found]
    return targets


def _optional(peer: str) -> list[str]:
    """Return a list with the peer's name, or an empty list if its library is not installed."""
    if peer == "dali":
        problem, is_available = (
            "DALI_PYTHON (a Python with nvidia-dali-cuda120) is not set",
            "DALI_PYTHON" in os.environ,
        )
    else:
        problem, is_available = "nvidia-nvimgcodec-cu12 is not installed", can_decode_regions()
    if not is_available:
        print(f"loose: skipped {peer}: {problem}")
    return [peer] if is_available else []


def take_turns(peers: list[str], folder: Path, cores: int) -> dict[str, list[Cost]]:
    """Return the cost of every peer in every round, without the first round, which is a warm-up."""
    running = {peer: _start(peer, folder, cores) for peer in peers}
    try:
        for peer, process in running.items():
            _read_result(process, folder / f"{peer}.log")
        found: dict[str, list[Cost]] = {peer: [] for peer in peers}
        for _ in range(ROUNDS + 1):
            for peer, process in running.items():
                print("epoch", file=process.stdin, flush=True)
                found[peer].append(Cost(*map(float, _read_result(process, folder / f"{peer}.log"))))
        return {peer: costs[1:] for peer, costs in found.items()}
    finally:
        for process in running.values():
            process.communicate(timeout=60)  # closes its input, which ends the process


def _start(peer: str, folder: Path, cores: int) -> subprocess.Popen[str]:
    python = os.environ["DALI_PYTHON"] if peer == "dali" else sys.executable
    program = Path(__file__).with_name("input_pipeline_peers.py")
    environment = (
        os.environ if peer != "dali" else {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    )
    with (folder / f"{peer}.log").open("w") as log:
        return subprocess.Popen(
            [python, str(program), peer, str(folder), str(cores), str(cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )


def _read_result(process: subprocess.Popen[str], log: Path) -> list[str]:
    """Return the fields of the next result line; other lines come from libraries and are skipped."""
    for line in process.stdout or ():
        if line.startswith("measured "):
            return line.split()[1:]
    raise RuntimeError(f"{log.stem}: the process has ended; end of its log: {log.read_text()[-2000:]}")
