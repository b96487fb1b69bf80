"""The launch command is the one that PaddleClas' own instructions give, and its environment holds no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import ParameterError
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


def test_packages_of_the_user_come_behind():
    """A PYTHONPATH of `launch.environment` adds to the one by which ranks find this package."""
    launch = LaunchParameters(device="cpu", devices=(0,), environment={"PYTHONPATH": "/opt/etcd3"})
    environment = build_launch_command(launch, Path("log"), [], {}).environment
    assert environment["PYTHONPATH"] == f"{TRAINER_PROGRAM.parents[2]}:/opt/etcd3"


def test_variables_of_devices_reach_the_ranks():
    """What custom devices are found by, and what limits them, is passed on as CUDA's is."""
    inherited = {
        "CUSTOM_DEVICE_ROOT": "/opt/plugins",
        "ASCEND_RT_VISIBLE_DEVICES": "0,1",
        "NPU_VISIBLE_DEVICES": "0,1",
        "HCCL_CONNECT_TIMEOUT": "600",
        "XPULINK_VISIBLE_DEVICES": "3",
        "PORT_RANGE": "35100:36000",
    }
    launch = LaunchParameters(device="npu", devices=(0, 1))
    environment = build_launch_command(launch, Path("log"), [], inherited).environment
    assert inherited.items() <= environment.items()
    assert environment["PADDLE_XCCL_BACKEND"] == "npu"


@pytest.mark.parametrize(
    ("device", "variable"),
    [
        ("gpu", "CUDA_VISIBLE_DEVICES"),
        ("xpu", "XPU_VISIBLE_DEVICES"),
        ("iluvatar_gpu", "ILUVATAR_GPU_VISIBLE_DEVICES"),
    ],
)
def test_cards_that_a_scheduler_gave_are_not_taken_over(device: str, variable: str):
    """Paddle finds a card by its number in the variable, which stays as it is: 4 of "4,5" works, 0 of them does not."""
    given = {variable: "4,5"}
    launch = LaunchParameters(device=device, devices=(5,))
    assert build_launch_command(launch, Path("log"), [], given).environment[variable] == "4,5"
    with pytest.raises(ParameterError, match=rf"devices is \[0, 4\], but {variable} is '4,5', so .* not see \[0\]"):
        build_launch_command(LaunchParameters(device=device, devices=(0, 4)), Path("log"), [], given)


def test_no_card_visible_is_an_error_and_all_is_all():
    """An empty CUDA_VISIBLE_DEVICES hides every card; `all` hides none."""
    launch = LaunchParameters(device="gpu", devices=(0,))
    with pytest.raises(ParameterError, match="CUDA_VISIBLE_DEVICES is ''"):
        build_launch_command(launch, Path("log"), [], {"CUDA_VISIBLE_DEVICES": ""})
    build_launch_command(launch, Path("log"), [], {"CUDA_VISIBLE_DEVICES": "all"})


def test_paddle_looks_numbers_up_in_the_variable():
    """The rule above is that of the installed Paddle, asked itself."""
    code = (
        "from paddle.distributed.launch.context.device import Device\n"
        "device = Device.parse_device()\n"
        "print(device.get_selected_devices('5'))\n"
        "try: device.get_selected_devices('0')\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "4,5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["['1']", "'0' is not in list"]


def test_machines_meet():
    """Further machines are Paddle's own arguments; elastic training leaves their numbers to Paddle."""
    two = {"nnodes": 2, "master": "10.0.0.1:8765", "rank": 1, "host": "10.0.0.2"}
    launch = LaunchParameters(device="cpu", devices=(0, 1), **two)
    assert build_launch_command(launch, Path("log"), []).arguments[6:-1] == (
        "--master=10.0.0.1:8765",
        "--nnodes=2",
        "--job_id=resnet50",
        "--rank=1",
        "--host=10.0.0.2",
    )
    assert (launch.ranks, launch.own_ranks) == (4, range(2, 4))
    elastic = LaunchParameters(
        device="gpu", devices=(0, 1), nnodes="2:4", master="etcd://10.0.0.9:2379", job_id="a", max_restarts=5
    )
    assert build_launch_command(elastic, Path("log"), []).arguments[6:-1] == (
        "--master=etcd://10.0.0.9:2379",
        "--nnodes=2:4",
        "--job_id=a",
        "--elastic_level=1",
        "--max_restart=5",
    )
    assert elastic.ranks == 4
    alone = elastic.on_this_machine_alone()
    assert build_launch_command(alone, Path("log"), []).arguments[6:-1] == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nnodes": 2}, "set master to host:port of machine 0"),
        ({"nnodes": "2:4", "master": "10.0.0.1:8765"}, "takes an etcd"),
        ({"nnodes": "4:2", "master": "etcd://10.0.0.1:2379"}, "the fewest machines come first"),
        ({"nnodes": "two", "master": "10.0.0.1:8765"}, "it is a number of machines"),
        ({"nnodes": 0}, "it is a number of machines"),
        ({"nnodes": 2, "master": "10.0.0.1", "rank": 1}, "it is host:port"),
        ({"nnodes": 2, "master": "10.0.0.1:8765", "rank": 2}, r"rank 2 is outside 0\.\.1"),
        ({"rank": 1}, r"rank 1 is outside 0\.\.0"),
    ],
)
def test_machines_that_could_not_meet_are_refused(values, message: str):
    """What Paddle's launcher would wait for without an end is an error of the parameters."""
    with pytest.raises(ValueError, match=message):
        LaunchParameters(device="cpu", devices=(0,), **values)
