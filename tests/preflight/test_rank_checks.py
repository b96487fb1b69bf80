"""Checks of Paddle, devices and collectives, with a real probe and with results from other machines."""

from __future__ import annotations

import ast
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from resnet50_pipeline.paddleclas.launch.command import LaunchCommand, build_launch_command
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.preflight.ranks import PROBE_PROGRAM, Probed, check_ranks, positions, probing

# The probe's output on a machine with four GPUs.
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
    """Return the findings of a real probe, or of the program `python` instead of the interpreter."""
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
def test_cpu_ranks_pass(tmp_path):
    """Paddle, the trainer's imports and gloo work in the ranks' environment, and no file is left behind."""
    findings = probe(launch("cpu"), tmp_path)
    assert [(one.check, one.status) for one in findings] == [("Paddle", "ok"), ("devices", "ok"), ("collectives", "ok")]
    assert findings[2].found == "gloo"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "check", "remedy"),
    [
        ("gpu", "Paddle", "make setup GPU=1"),
        ("iluvatar_gpu", "devices", "training.launch.device"),
        ("gpuu", "devices", "training.launch.device"),
    ],
)
def test_a_missing_device_blocks(tmp_path, device, check, remedy):
    """A CPU build has neither GPUs nor custom devices, and the remedy includes the command or the parameter."""
    refused = [one for one in probe(launch(device), tmp_path) if one.status == "blocking"]
    assert [one.check for one in refused] == [check]
    assert remedy in refused[0].remedy


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kill -SEGV $$", "SIGSEGV"),
        ("echo 'libcudart.so.11.0: cannot open shared object file' >&2; exit 3", "3: libcudart.so.11.0"),
        ('echo \'{"problem": "ImportError: libgomp.so.1"}\'', "ImportError: libgomp.so.1"),
    ],
)
def test_a_paddle_that_cannot_be_imported_blocks(tmp_path, code, problem):
    """A crash, an exit code and an exception are reported with the command that shows the complete error."""
    (finding,) = probe(launch("cpu"), tmp_path, fake_python(tmp_path, code))
    assert (finding.check, finding.status) == ("Paddle", "blocking")
    assert problem in finding.found
    assert str(PROBE_PROGRAM) in finding.remedy


def test_leaving_the_block_kills_the_probe(tmp_path):
    """No process is left running if the caller does not wait for the result."""
    python = fake_python(tmp_path, "exec sleep 60")
    parameters = launch("cpu")
    command = LaunchCommand((python,), {"PATH": "/usr/bin:/bin"})
    before = psutil.Process().children()
    with probing(command, parameters, every_device=False):
        (child,) = [process for process in psutil.Process().children() if process not in before]
    assert not child.is_running()


def test_four_gpus_pass():
    """A machine that suits the reference recipe has CUDA, four GPUs and NCCL."""
    findings = list(check_ranks(Probed(FOUR_CARDS, (0, 1, 2, 3)), launch("gpu", 0, 1, 2, 3)))
    assert [one.status for one in findings] == ["ok", "ok", "ok"]
    assert [one.found for one in findings] == ["2.6.2, CUDA 11.8", "4 x gpu", "NCCL"]


@pytest.mark.parametrize(
    ("changes", "parameters", "found", "remedy"),
    [
        ({"count": 2}, launch("gpu", 0, 1, 2, 3), "2,3", "training.launch.devices"),
        ({"count": 0}, launch("gpu", 0), "gpu", "docker run --gpus all"),
        ({"count": 2}, launch("npu", 0, 1, 3), "3", "training.launch.devices"),
        ({"count": 0, "custom_devices": ["npu"]}, launch("xpu", 0), "npu", "training.launch.device"),
        ({"unusable": {"1": "OSError: CUDA error(46)"}}, launch("gpu", 4, 5), "gpu:5", "training.launch.devices"),
        ({"has_nccl": False}, launch("gpu", 0, 1), "NCCL", "training.launch.devices"),
        (
            {"missing_libraries": {"nvidia-nccl-cu11": "libnccl.so: no"}},
            launch("gpu", 0),
            "libnccl.so",
            "nvidia-nccl-cu11",
        ),
        (
            {"unsupported": {"1": "NVIDIA H200 (compute capability 9.0)"}, "kernels": "7.0, 8.6"},
            launch("gpu", 4, 5),
            "gpu:5 is an NVIDIA H200 (compute capability 9.0)",
            "docs/devices.md",
        ),
        ({"has_gloo": False}, launch("cpu", 0, 1), "gloo", "training.launch.devices"),
        ({"trainer_problem": "ImportError: libGL.so.1"}, launch("cpu", 0), "ImportError: libGL.so.1", "make setup"),
    ],
)
def test_each_missing_part_is_reported_with_a_remedy(changes, parameters, found, remedy):
    """Too few devices, no devices, a broken device, missing collectives and a failed import block."""
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
def test_positions_count_the_visible_devices(device, devices, environment, expected):
    """Parameters use the numbers of nvidia-smi; Paddle counts only the devices that a scheduler made visible."""
    assert positions(launch(device, *devices), environment) == expected


@pytest.mark.slow
def test_probe_counts_parameters_and_activations():
    """ResNet50 has 25,557,032 parameters (torchvision), and 11.1 million values come out of its convolutions (timm)."""
    program = "from resnet50_pipeline.trainer.probes.environment import count_values; print(count_values('ResNet50'))"
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True
    )
    counted = ast.literal_eval(printed.stdout.splitlines()[-1])
    assert counted["parameters"] == 25_557_032
    assert counted["activations"] == pytest.approx(11.1e6 + 9.6e6, rel=0.01)
