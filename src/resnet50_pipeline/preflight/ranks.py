"""Checks Paddle, its devices and its collectives by running trainer/probes/environment.py as a rank would."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, LaunchCommand, visible_devices_variable
from resnet50_pipeline.paddleclas.upstream.checkout import PaddleClasCheckout
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.text import pluralize

PROBE_PROGRAM = TRAINER_PROGRAM.with_name("probes") / "environment.py"
_PROBE_SECONDS = 120.0
_CPU_BUILD = "make setup GPU=1 (or Paddle's own build for your CUDA), or training.launch.device=cpu"
_NO_CARDS = "check that nvidia-smi lists GPUs; in a container, use docker run --gpus all"
_CUSTOM_BUILD = "install Paddle's build or plug-in for this device, or set training.launch.device"
_BROKEN = f"make setup; for the complete error, run: python {PROBE_PROGRAM} --device cpu"


@dataclass(frozen=True)
class Probed:
    """Result of the probe, or the error that prevented a result.

    Attributes:
        found: JSON object printed by the probe.
        positions: positions of the devices among the visible devices. Paddle uses these positions as device numbers.
        problem: the probe's error message, or None if the probe printed a result.
    """

    found: dict[str, Any]
    positions: tuple[int, ...] = ()
    problem: str | None = None


@contextlib.contextmanager
def probing(
    command: LaunchCommand,
    launch: LaunchParameters,
    checkout: PaddleClasCheckout | None = None,
    *,
    every_device: bool,
    network: str | None = None,
) -> Iterator[Callable[[], Probed]]:
    """Start the probe process and yield a function that waits for its result.

    The process is killed at the end of the block.

    Args:
        command: command that starts the ranks. The probe uses the same interpreter and environment.
        launch: the ranks' devices.
        checkout: checkout to import the PaddleClas engine from; None for the native engine.
        every_device: whether to test every device instead of only the first. With CUDA, each device takes about a
            second.
        network: network whose size to include in the result if the device is gpu.
    """
    numbers = positions(launch, command.environment)
    arguments = [command.arguments[0], "-W", "ignore", str(PROBE_PROGRAM)]
    arguments += ["--device", launch.device, "--use", ",".join(map(str, numbers if every_device else numbers[:1]))]
    if network is not None:
        arguments += ["--network", network]
    if checkout is not None:
        arguments += ["--paddleclas", str(checkout.home)]
    # Importing paddle creates ~/.cache/paddle, but the ranks' HOME must not exist before the run.
    with tempfile.TemporaryDirectory(prefix="preflight-") as home:
        process = subprocess.Popen(
            arguments,
            env={**command.environment, "HOME": home},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            yield lambda: _wait(process, numbers)
        finally:
            process.kill()
            process.communicate()


def check_ranks(probed: Probed, launch: LaunchParameters) -> Iterator[Finding]:
    """Convert the probe's result to findings about Paddle, the devices and the collectives."""
    problem = probed.problem or probed.found.get("problem")
    if problem:
        yield Finding("Paddle", "blocking", str(problem), "a rank that can import it", _BROKEN)
        return
    found = probed.found
    cuda = f"CUDA {found['cuda']}" if found["has_cuda"] else "without CUDA"
    yield judge(
        launch.device != "gpu" or found["has_cuda"],
        "blocking",
        "Paddle",
        found=f"{found['paddle']}, {cuda}",
        needed="a build with CUDA" if launch.device == "gpu" else "2.6 or later",
        remedy=_CPU_BUILD,
    )
    if "trainer_problem" in found:
        yield Finding("trainer", "blocking", found["trainer_problem"], "a rank that can import it", _BROKEN)
    if launch.device == "gpu" and not found["has_cuda"]:
        return  # without CUDA, the checks for GPUs and NCCL would fail too
    if missing := found.get("missing_libraries"):
        yield _missing_libraries(missing)
        return
    yield _check_devices(probed, launch)
    if len(launch.devices) > 1:
        yield _check_collectives(found, launch)


def positions(launch: LaunchParameters, environment: Mapping[str, str]) -> tuple[int, ...]:
    """Return the positions of the configured devices among the visible devices, as the launcher computes them."""
    variable = visible_devices_variable(launch.device)
    visible = [name.strip() for name in environment.get(variable or "", "all").split(",")]
    if visible == ["all"]:
        return launch.devices
    return tuple(visible.index(str(number)) for number in launch.devices)


def _check_devices(probed: Probed, launch: LaunchParameters) -> Finding:
    found = probed.found
    wanted = ",".join(map(str, launch.devices))
    if launch.device == "cpu":
        return Finding("devices", "ok", "cpu", f"cpu, for {pluralize(len(launch.devices), 'rank')}")
    count, needed = found["count"], f"{launch.device} {wanted}"
    if count == 0:
        others = ", ".join(found["custom_devices"])
        known = f"; Paddle knows {others}" if others else ""
        remedy = _NO_CARDS if launch.device == "gpu" else _CUSTOM_BUILD
        return Finding("devices", "blocking", f"no {launch.device}{known}", needed, remedy)
    absent = [number for number, place in zip(launch.devices, probed.positions, strict=True) if place >= count]
    if absent:
        return Finding(
            "devices",
            "blocking",
            f"{count} x {launch.device}, not {','.join(map(str, absent))}",
            needed,
            "set training.launch.devices to existing devices",
        )
    if found.get("unsupported"):
        place, card = next(iter(found["unsupported"].items()))
        number = launch.devices[probed.positions.index(int(place))]
        return Finding(
            "devices",
            "blocking",
            f"gpu:{number} is an {card}, but this Paddle was built for {found['kernels']}",
            "kernels for every card",
            "install a build from Paddle's own index: docs/devices.md",
        )
    if found["unusable"]:
        place, message = next(iter(found["unusable"].items()))
        number = launch.devices[probed.positions.index(int(place))]
        what = f"a test computation on {launch.device}:{number} failed: {message}"
        return Finding(
            "devices", "blocking", what, needed, "remove this device from training.launch.devices, or reset the device"
        )
    return Finding("devices", "ok", f"{count} x {launch.device}", needed)


def _missing_libraries(missing: Mapping[str, str]) -> Finding:
    """Return the finding about CUDA libraries that the ranks could not load."""
    return Finding(
        "CUDA libraries",
        "blocking",
        "; ".join(missing.values()),
        "all libraries that Paddle loads",
        f"make setup GPU=1, which installs {', '.join(missing)}; or set LD_LIBRARY_PATH to the folders of CUDA 11.8 "
        "and cuDNN 8",
    )


def _check_collectives(found: dict[str, Any], launch: LaunchParameters) -> Finding:
    needed = f"for {pluralize(len(launch.devices), 'rank')}"
    if launch.device == "gpu":
        has, name = found["has_nccl"], "NCCL"
    elif launch.device == "cpu":
        has, name = found["has_gloo"], "gloo"
    else:  # provided by the plug-in, such as BKCL or XCCL; Paddle cannot query them
        return Finding("collectives", "ok", f"those of {launch.device}", needed)
    return judge(
        has,
        "blocking",
        "collectives",
        found=name if has else f"Paddle without {name}",
        needed=f"{name}, {needed}",
        remedy=f"install a build with {name}, or use a single device in training.launch.devices",
    )


def _wait(process: subprocess.Popen[str], numbers: tuple[int, ...]) -> Probed:
    try:
        output, errors = process.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return Probed({}, problem=f"the probe did not finish within {_PROBE_SECONDS:.0f} s")
    lines = output.splitlines()
    if process.returncode == 0 and lines:
        return Probed(json.loads(lines[-1]), numbers)
    how = f"exit code {process.returncode}"
    if process.returncode < 0:
        how = f"signal {signal.Signals(-process.returncode).name}"
    messages = [line for line in errors.splitlines() if line.strip()]
    return Probed({}, problem=f"the probe ended with {how}: {messages[-1] if messages else 'no error message'}"[:300])
