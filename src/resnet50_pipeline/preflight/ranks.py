"""Paddle, its devices and collectives, as a rank would find them: asked in a process of its own (trainer/probe.py)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet50_pipeline.paddleclas.launch import TRAINER_PROGRAM, LaunchCommand, visible_devices_variable
from resnet50_pipeline.paddleclas.upstream import PaddleClasCheckout
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding, judge

PROBE_PROGRAM = TRAINER_PROGRAM.with_name("probe.py")
_PROBE_SECONDS = 120.0
_CPU_BUILD = "make setup GPU=1 (or Paddle's own build for your CUDA), or training.launch.device=cpu"
_NO_CARDS = "does nvidia-smi show cards? In a container: docker run --gpus all"
_CUSTOM_BUILD = "install Paddle's build or plug-in for it, or set training.launch.device"
_BROKEN = f"make setup; to see all that it says: python {PROBE_PROGRAM} --device cpu"


@dataclass(frozen=True)
class Probed:
    """What the probe found, or why it found nothing.

    Attributes:
        found: its JSON.
        positions: what Paddle calls the devices in the ranks: their places among the visible ones.
        problem: how it ended, where there is no JSON; None otherwise.
    """

    found: dict[str, Any]
    positions: tuple[int, ...] = ()
    problem: str | None = None


@contextlib.contextmanager
def probing(
    command: LaunchCommand, launch: LaunchParameters, checkout: PaddleClasCheckout | None = None, *, every_device: bool
) -> Iterator[Callable[[], Probed]]:
    """Start the probe, and give a function that waits for what it found; nothing of it outlives the block.

    Args:
        command: that of the ranks; the probe gets its interpreter and environment.
        launch: the device.
        checkout: where the engine of PaddleClas itself is to be imported from, if it is to train.
        every_device: whether all of them are to compute something, or the first; each takes CUDA a second or so.
    """
    numbers = positions(launch, command.environment)
    arguments = [command.arguments[0], "-W", "ignore", str(PROBE_PROGRAM)]
    arguments += ["--device", launch.device, "--use", ",".join(map(str, numbers if every_device else numbers[:1]))]
    if checkout is not None:
        arguments += ["--paddleclas", str(checkout.home)]
    # Importing paddle makes ~/.cache/paddle; the launcher's HOME lies in a folder that the run has yet to make.
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
    """Judge Paddle, the devices and the collectives."""
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
        return  # it knows no cards, nor NCCL
    yield _check_devices(probed, launch)
    if len(launch.devices) > 1:
        yield _check_collectives(found, launch)


def positions(launch: LaunchParameters, environment: Mapping[str, str]) -> tuple[int, ...]:
    """Return the places of the devices among those that the environment makes visible, as the launcher does."""
    variable = visible_devices_variable(launch.device)
    visible = [name.strip() for name in environment.get(variable or "", "all").split(",")]
    if visible == ["all"]:
        return launch.devices
    return tuple(visible.index(str(number)) for number in launch.devices)


def _check_devices(probed: Probed, launch: LaunchParameters) -> Finding:
    found = probed.found
    wanted = ",".join(map(str, launch.devices))
    if launch.device == "cpu":
        return Finding("devices", "ok", "cpu", f"for {len(launch.devices)} ranks")
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
            "set training.launch.devices to those that are there",
        )
    if found["unusable"]:
        place, words = next(iter(found["unusable"].items()))
        number = launch.devices[probed.positions.index(int(place))]
        what = f"{launch.device}:{number} does not compute: {words}"
        return Finding("devices", "blocking", what, needed, "leave it out of training.launch.devices, or reset it")
    return Finding("devices", "ok", f"{count} x {launch.device}", needed)


def _check_collectives(found: dict[str, Any], launch: LaunchParameters) -> Finding:
    if launch.device == "gpu":
        has, name = found["has_nccl"], "NCCL"
    elif launch.device == "cpu":
        has, name = found["has_gloo"], "gloo"
    else:  # the plug-in brings its own, as BKCL or XCCL, and Paddle has no word for whether it did
        return Finding("collectives", "ok", f"those of {launch.device}", f"{len(launch.devices)} ranks")
    return judge(
        has,
        "blocking",
        "collectives",
        found=name if has else f"Paddle without {name}",
        needed=f"{name}, for {len(launch.devices)} ranks",
        remedy="name one device in training.launch.devices, or install a build with it",
    )


def _wait(process: subprocess.Popen[str], numbers: tuple[int, ...]) -> Probed:
    try:
        output, errors = process.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return Probed({}, problem=f"the probe did not end within {_PROBE_SECONDS:.0f} s")
    lines = output.splitlines()
    if process.returncode == 0 and lines:
        return Probed(json.loads(lines[-1]), numbers)
    how = f"exit code {process.returncode}"
    if process.returncode < 0:
        how = f"signal {signal.Signals(-process.returncode).name}"
    said = [line for line in errors.splitlines() if line.strip()]
    return Probed({}, problem=f"the probe ended with {how}: {said[-1] if said else 'it said nothing'}"[:300])
