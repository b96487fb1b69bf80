"""Checks the connection between every pair of cards with an all-reduce."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, Program, build_launch_command
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.text import format_bytes

_PROGRAM = Program(TRAINER_PROGRAM.with_name("probes") / "pair_reduction.py", import_path=TRAINER_PROGRAM.parents[2])
_TIMEOUT_SECONDS = 180.0
_SLOW = 3.0  # a connection through the host takes several times as long as NVLink or PCIe peer access
_MAX_SHOWN = 6


def check_pairs(
    launch: LaunchParameters, measure: Callable[[LaunchParameters], Mapping[str, Any]] | None = None
) -> Finding:
    """Start all ranks on this machine, and return a finding about the all-reduce between each pair of devices.

    Args:
        launch: at least two devices.
        measure: measures the pairs; `measure_pairs` by default.
    """
    needed = f"an all-reduce between each pair, and no pair {_SLOW:g} times slower than the fastest"
    try:
        found = (measure or measure_pairs)(launch)
    except PipelineError as error:
        message = " ".join(str(error).split())[-300:]
        remedy = (
            "check `nvidia-smi topo -m` and the kernel log; for details, set NCCL_DEBUG=INFO in "
            "training.launch.environment"
        )
        return Finding("card pairs", "blocking", message, needed, remedy)
    numbers = combinations(launch.devices, 2)
    seconds = {f"{one}-{other}": time for (one, other), time in zip(numbers, found["seconds"].values(), strict=True)}
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{pair} {time * 1e3:.3g} ms" for pair, time in ordered[:_MAX_SHOWN])
    rest = f", {len(ordered) - _MAX_SHOWN} faster pairs" if len(ordered) > _MAX_SHOWN else ""
    text = f"{format_bytes(found['bytes'])}: {shown}{rest}"
    if ordered[0][1] <= _SLOW * ordered[-1][1]:
        return Finding("card pairs", "ok", text, needed)
    remedy = f"check the connection of {ordered[0][0]} with `nvidia-smi topo -m` and `nvidia-smi nvlink -s`"
    return Finding("card pairs", "warning", text, needed, remedy)


def measure_pairs(launch: LaunchParameters, size: int | None = None) -> dict[str, Any]:
    """Run trainer/probes/pair_reduction.py on this machine's ranks, and return the JSON object that it writes.

    Raises:
        PipelineError: if a rank fails or does not finish.
    """
    alone = launch.on_this_machine_alone()
    with tempfile.TemporaryDirectory(prefix="preflight-") as name:
        folder = Path(name)
        output = folder / "pairs.json"
        arguments = ["--device", launch.device, "--output", str(output)]
        if size is not None:
            arguments += ["--bytes", str(size)]
        logs = folder / "log"
        command = build_launch_command(alone, logs, arguments, program=_PROGRAM)
        run_ranks(command, folder, logs, _TIMEOUT_SECONDS, ranks=alone.ranks, log_stays=False)
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return found
