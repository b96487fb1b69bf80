"""The launch command is the one that PaddleClas' own instructions give, and its environment holds no secret."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnet50_pipeline.paddleclas.launch import TRAINER_PROGRAM, build_launch_command
from resnet50_pipeline.parameters import LaunchParameters


@pytest.mark.parametrize(
    ("device", "devices", "selection"),
    [
        ("gpu", (0, 1, 2, 3), "--gpus=0,1,2,3"),
        ("gpu", (2,), "--gpus=2"),
        ("cpu", (0, 1), "--nproc_per_node=2"),
        ("iluvatar_gpu", (0, 1, 2, 3), "--devices=0,1,2,3"),
        ("npu", (1,), "--devices=1"),
    ],
)
def test_device_selection(device: str, devices: tuple[int, ...], selection: str):
    """Cards are named as Paddle's launcher wants them; CPU ranks are counted."""
    command = build_launch_command(LaunchParameters(device=device, devices=devices), Path("log"), ["train"])
    assert command.arguments == (
        sys.executable,
        "-u",
        "-m",
        "paddle.distributed.launch",
        selection,
        "--log_dir=log",
        str(TRAINER_PROGRAM),
        "train",
    )


def test_program_is_there():
    """The path that the launcher starts exists in the installed package."""
    assert TRAINER_PROGRAM.is_file()


def test_environment_is_an_allow_list():
    """Variables that nobody named, as tokens and passwords, do not reach the launcher, which logs what it has."""
    inherited = {
        "PATH": "/bin",
        "NCCL_DEBUG": "INFO",
        "FLAGS_cudnn_exhaustive_search": "False",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "MLFLOW_TRACKING_PASSWORD": "canary",
        "SOMETHING": "canary",
    }
    launch = LaunchParameters(
        device="gpu", devices=(4, 5), threads_per_rank=3, environment={"FLAGS_cudnn_exhaustive_search": "True"}
    )
    environment = build_launch_command(launch, Path("log"), [], inherited).environment
    assert "canary" not in environment.values()
    assert environment["PATH"] == "/bin"
    assert environment["NCCL_DEBUG"] == "INFO"
    assert environment["FLAGS_cudnn_exhaustive_search"] == "True"
    assert environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert environment["OMP_NUM_THREADS"] == "3"
