"""The launch command matches PaddleClas' own instructions, and its environment contains no secrets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, build_launch_command
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
def test_devices_are_selected_by_number_or_count(device: str, devices: tuple[int, ...], selection: str):
    """GPUs are selected by number and CPU ranks by count."""
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


def test_program_exists_in_package():
    """The program that the launcher starts exists in the installed package."""
    assert TRAINER_PROGRAM.is_file()


def test_only_allowed_variables_reach_launcher():
    """Variables outside the allow-list, such as tokens, never reach the launcher, which logs its environment."""
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


def test_user_pythonpath_follows_package_path():
    """A PYTHONPATH in `launch.environment` extends the path on which ranks find this package."""
    launch = LaunchParameters(device="cpu", devices=(0,), environment={"PYTHONPATH": "/opt/etcd3"})
    environment = build_launch_command(launch, Path("log"), [], {}).environment
    assert environment["PYTHONPATH"] == f"{TRAINER_PROGRAM.parents[2]}:/opt/etcd3"


def test_device_variables_reach_ranks():
    """Environment variables for custom devices reach the ranks, like those for CUDA."""
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
def test_devices_select_from_visible_cards(device: str, variable: str):
    """The variable for visible devices is kept, and devices are selected from it: with "4,5", 4 works and 0 fails."""
    given = {variable: "4,5"}
    launch = LaunchParameters(device=device, devices=(5,))
    assert build_launch_command(launch, Path("log"), [], given).environment[variable] == "4,5"
    with pytest.raises(ParameterError, match=rf"\[0, 4\].*{variable} is '4,5'.*\[0\]"):
        build_launch_command(LaunchParameters(device=device, devices=(0, 4)), Path("log"), [], given)


def test_no_visible_card_is_an_error():
    """An empty CUDA_VISIBLE_DEVICES hides every card; `all` hides none."""
    launch = LaunchParameters(device="gpu", devices=(0,))
    with pytest.raises(ParameterError, match="CUDA_VISIBLE_DEVICES is ''"):
        build_launch_command(launch, Path("log"), [], {"CUDA_VISIBLE_DEVICES": ""})
    build_launch_command(launch, Path("log"), [], {"CUDA_VISIBLE_DEVICES": "all"})


def test_paddle_selects_from_visible_cards():
    """The installed Paddle launcher interprets CUDA_VISIBLE_DEVICES the same way as this project."""
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


def test_several_machines_use_paddle_options():
    """Training on several machines uses Paddle's own options. In elastic training, Paddle numbers the machines."""
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
        ({"nnodes": 2}, "nnodes is 2.*master"),
        ({"nnodes": "2:4", "master": "10.0.0.1:8765"}, "2:4.*etcd://"),
        ({"nnodes": "4:2", "master": "etcd://10.0.0.1:2379"}, "4:2.*2:4"),
        ({"nnodes": "two", "master": "10.0.0.1:8765"}, "nnodes is 'two'"),
        ({"nnodes": 0}, "nnodes is 0"),
        ({"nnodes": 2, "master": "10.0.0.1", "rank": 1}, "10.0.0.1'"),
        ({"nnodes": 2, "master": "10.0.0.1:8765", "rank": 2}, "rank is 2.*from 0 to 1"),
        ({"rank": 1}, "rank is 1.*from 0 to 0"),
    ],
)
def test_unreachable_machine_settings_are_rejected(values, message: str):
    """Settings that would make Paddle's launcher wait forever are rejected with a ParameterError."""
    with pytest.raises(ValueError, match=message):
        LaunchParameters(device="cpu", devices=(0,), **values)


@pytest.mark.parametrize(
    ("resolved", "values", "interface"),
    [
        (None, {}, "lo"),
        ("192.0.2.1", {}, "lo"),
        ("10.0.0.1", {}, None),
        ("10.0.0.1", {"host": "127.0.0.1"}, "lo"),
        (None, {"host": "10.0.0.1", "nnodes": 2, "master": "10.0.0.1:8765"}, "eth0"),
        (None, {"devices": (0,)}, None),
        (None, {"device": "gpu"}, None),
    ],
)
def test_cpu_ranks_find_each_other_without_a_host_name(monkeypatch, resolved, values, interface):
    """Gloo needs a host name that resolves. Without one, it gets the name of a network interface of this machine."""

    def resolve(_name: str) -> str:
        if resolved is None:
            raise socket.gaierror(-2, "Name or service not known")
        return str(resolved)

    addresses = {
        name: [SimpleNamespace(address=address)] for name, address in (("lo", "127.0.0.1"), ("eth0", "10.0.0.1"))
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    monkeypatch.setattr(socket, "gethostbyname", resolve)
    launch = LaunchParameters(**{"device": "cpu", "devices": (0, 1), **values})
    environment = build_launch_command(launch, Path("log"), [], {}).environment
    assert environment.get("GLOO_SOCKET_IFNAME") == interface
    given = build_launch_command(launch, Path("log"), [], {"GLOO_SOCKET_IFNAME": "ib0"}).environment
    assert given["GLOO_SOCKET_IFNAME"] == "ib0"
