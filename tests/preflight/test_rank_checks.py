"""Paddle and its devices as a real rank finds them, and what is said of those that this machine does not have."""

from __future__ import annotations

import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from resnet50_pipeline.paddleclas.launch import LaunchCommand, build_launch_command
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.preflight.ranks import PROBE_PROGRAM, Probed, check_ranks, positions, probing

# What the probe prints on a machine with four cards.
FOUR_CARDS = {
    "paddle": "2.6.2",
    "has_cuda": True,
    "cuda": "11.8",
    "custom_devices": [],
    "count": 4,
    "has_nccl": True,
    "has_gloo": True,
    "unusable": {},
}


def launch(device: str, *devices: int) -> LaunchParameters:
    return LaunchParameters(device=device, devices=devices or (0, 1))


def probe(parameters: LaunchParameters, tmp_path: Path, python: str = sys.executable) -> list[Finding]:
    """Return the findings of a real probe, or of another program in its interpreter's place."""
    command = build_launch_command(parameters, tmp_path / "log", [])
    command = replace(command, arguments=(python, *command.arguments[1:]))
    with probing(command, parameters, every_device=False) as wait:
        return list(check_ranks(wait(), parameters))


def fake_python(tmp_path: Path, code: str) -> str:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


@pytest.mark.slow
def test_cpu_ranks_are_fine_here(tmp_path):
    """Paddle, what the trainer imports, and gloo are found in the ranks' environment, and nothing is left in a home."""
    findings = probe(launch("cpu"), tmp_path)
    assert [(one.check, one.status) for one in findings] == [("Paddle", "ok"), ("devices", "ok"), ("collectives", "ok")]
    assert findings[2].found == "gloo"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "check", "words"),
    [
        ("gpu", "Paddle", "make setup GPU=1"),
        ("iluvatar_gpu", "devices", "install Paddle's build or plug-in for it"),
        ("gpuu", "devices", "set training.launch.device"),
    ],
)
def test_a_device_that_is_not_here_is_refused(tmp_path, device, check, words):
    """A CPU build has no cards, and no custom device by any name; the finding says what to install or set."""
    refused = [one for one in probe(launch(device), tmp_path) if one.status == "blocking"]
    assert [one.check for one in refused] == [check]
    assert words in refused[0].remedy


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("kill -SEGV $$", "signal SIGSEGV"),
        ("echo 'libcudart.so.11.0: cannot open shared object file' >&2; exit 3", "exit code 3: libcudart.so.11.0"),
        ('echo \'{"problem": "ImportError: libgomp.so.1"}\'', "ImportError: libgomp.so.1"),
    ],
)
def test_a_paddle_that_cannot_be_imported_is_refused_with_its_words(tmp_path, code, words):
    """Crash, exit or exception: the finding says how, and how to see the rest."""
    (finding,) = probe(launch("cpu"), tmp_path, fake_python(tmp_path, code))
    assert (finding.check, finding.status) == ("Paddle", "blocking")
    assert words in finding.found
    assert str(PROBE_PROGRAM) in finding.remedy


def test_a_probe_that_nobody_waits_for_is_ended(tmp_path):
    """Whatever is found first, no process is left."""
    python = fake_python(tmp_path, "exec sleep 60")
    parameters = launch("cpu")
    command = LaunchCommand((python,), {"PATH": "/usr/bin:/bin"})
    started, before = time.monotonic(), psutil.Process().children()
    with probing(command, parameters, every_device=False):
        (child,) = [process for process in psutil.Process().children() if process not in before]
    assert not child.is_running()
    assert time.monotonic() - started < 5


def test_four_cards_are_fine():
    """A machine that has what the reference recipe asks for passes."""
    findings = list(check_ranks(Probed(FOUR_CARDS, (0, 1, 2, 3)), launch("gpu", 0, 1, 2, 3)))
    assert [one.status for one in findings] == ["ok", "ok", "ok"]
    assert [one.found for one in findings] == ["2.6.2, CUDA 11.8", "4 x gpu", "NCCL"]


@pytest.mark.parametrize(
    ("changes", "parameters", "found", "remedy"),
    [
        ({"count": 2}, launch("gpu", 0, 1, 2, 3), "2 x gpu, not 2,3", "those that are there"),
        ({"count": 0}, launch("gpu", 0), "no gpu", "docker run --gpus all"),
        ({"count": 2}, launch("npu", 0, 1, 3), "2 x npu, not 3", "those that are there"),
        ({"count": 0, "custom_devices": ["npu"]}, launch("xpu", 0), "no xpu; Paddle knows npu", "plug-in"),
        ({"unusable": {"1": "OSError: CUDA error(46)"}}, launch("gpu", 4, 5), "gpu:5 does not compute", "leave it out"),
        ({"has_nccl": False}, launch("gpu", 0, 1), "Paddle without NCCL", "name one device"),
        ({"has_gloo": False}, launch("cpu", 0, 1), "Paddle without gloo", "name one device"),
        ({"trainer_problem": "ImportError: libGL.so.1"}, launch("cpu", 0), "ImportError: libGL.so.1", "make setup"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(changes, parameters, found, remedy):
    """Fewer cards than named, none, a broken one, no collectives, an import that fails."""
    probed = Probed(FOUR_CARDS | changes, tuple(range(len(parameters.devices))))
    refused = [one for one in check_ranks(probed, parameters) if one.status == "blocking"]
    assert len(refused) == 1
    assert found in refused[0].found
    assert remedy in refused[0].remedy


@pytest.mark.parametrize(
    ("device", "devices", "environment", "expected"),
    [
        ("cpu", (0, 1), {}, (0, 1)),
        ("gpu", (2, 3), {"CUDA_VISIBLE_DEVICES": "2,3"}, (0, 1)),
        ("gpu", (6, 4), {"CUDA_VISIBLE_DEVICES": "4, 5, 6, 7"}, (2, 0)),
        ("npu", (1, 2), {"NPU_VISIBLE_DEVICES": "all"}, (1, 2)),
    ],
)
def test_devices_are_looked_up_among_the_visible_ones(device, devices, environment, expected):
    """The numbers are those of nvidia-smi; what Paddle calls them in the ranks depends on what a scheduler has left."""
    assert positions(launch(device, *devices), environment) == expected
