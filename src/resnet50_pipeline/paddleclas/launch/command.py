"""Builds the command and environment that start this machine's ranks."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import LaunchParameters

# A path, because the launcher runs a file, and because this package must not import the trainer.
TRAINER_PROGRAM = Path(__file__).parents[2] / "trainer" / "__main__.py"

# Paddle's launcher writes its entire environment to the log folder in plain text (envlog.N, backup_env.N.json). To keep
# tokens and passwords from leaking, ranks get only the variables listed here.
_PASSED_NAMES = frozenset(
    {
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PADDLE_XCCL_BACKEND",
        "PATH",
        "PORT_RANGE",  # ports that the launcher may use, for firewalls
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)
_PASSED_PREFIXES = (
    *("FLAGS_", "GLOO_", "KMP_", "LC_", "MKL_", "OMP_", "OPENBLAS_"),
    *("CUDA_", "NCCL_", "NVIDIA_"),
    *("HIP_", "HSA_", "ROCR_"),  # AMD, Hygon DCU
    *("ASCEND_", "HCCL_"),  # Huawei
    *("BKCL_", "XPU"),  # Kunlunxin, including XPULINK_VISIBLE_DEVICES
    *("ILUVATAR_", "IXCCL_"),
    *("CNCL_", "MLU_"),  # Cambricon
    *("ECCL_", "TOPS_"),  # Enflame
    "CUSTOM_DEVICE_",  # CUSTOM_DEVICE_ROOT: folder of Paddle's plugins for custom devices
)
_PASSED_SUFFIX = "_VISIBLE_DEVICES"
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
_LOOPBACK = "127.0.0.1"
_BUILT_IN_DEVICES = ("cpu", "gpu", "xpu")


@dataclass(frozen=True)
class LaunchCommand:
    """Arguments and environment of a program. The program inherits no other variables."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: Path | None = None
    """Working folder. Defaults to the current working folder."""


@dataclass(frozen=True)
class Program:
    """The program that each rank runs: its file, import path and working folder."""

    path: Path
    import_path: Path
    working_dir: Path | None = None


# The ranks import the same package as this process, whether it is installed or not.
TRAINER = Program(TRAINER_PROGRAM, import_path=TRAINER_PROGRAM.parents[2])


def build_launch_command(
    launch: LaunchParameters,
    log_dir: Path,
    program_arguments: Sequence[str],
    inherited: Mapping[str, str] | None = None,
    *,
    program: Program = TRAINER,
) -> LaunchCommand:
    """Return `python -u -m paddle.distributed.launch …` for the trainer program, or for another program.

    Devices are selected with `--gpus=0,1` on gpu, `--devices=0,1` on a custom device, and `--nproc_per_node=2` on cpu.
    With several machines, `--master=host:port --nnodes=2 --rank=0` is added.

    Args:
        launch: device, ranks and variables. `launch.environment` overrides inherited variables.
        log_dir: folder for `workerlog.<rank>` and for the ranks' home folder.
        program_arguments: arguments of the program.
        inherited: environment variables to filter. Defaults to `os.environ`.
        program: program that each rank runs.

    Raises:
        ParameterError: if one of the devices is missing from the inherited `CUDA_VISIBLE_DEVICES`.
    """
    devices = ",".join(map(str, launch.devices))
    if launch.device == "cpu":
        selection = f"--nproc_per_node={len(launch.devices)}"
    elif launch.device == "gpu":
        selection = f"--gpus={devices}"
    else:
        selection = f"--devices={devices}"
    environment = {
        name: value
        for name, value in (os.environ if inherited is None else inherited).items()
        if name in _PASSED_NAMES or name.startswith(_PASSED_PREFIXES) or name.endswith(_PASSED_SUFFIX)
    }
    environment |= {
        "OMP_NUM_THREADS": str(launch.threads_per_rank),
        "PYTHONPATH": str(program.import_path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",  # file names are UTF-8 in every locale
        "PYTHONSAFEPATH": "1",  # otherwise the program's folder comes first on the import path
        # Importing paddle creates ~/.cache/paddle, and to_static writes to it. Keep that folder with the run.
        "HOME": str(log_dir.absolute() / "home"),
    }
    if launch.device not in _BUILT_IN_DEVICES:
        # Paddle 2.6's launcher recognizes a custom device only by this variable; Paddle 3 asks the plugins.
        environment["PADDLE_XCCL_BACKEND"] = launch.device
    # The user's import path comes last, so that nothing in this path can shadow this package.
    own_path = environment["PYTHONPATH"]
    environment |= launch.environment
    if "PYTHONPATH" in launch.environment:
        environment["PYTHONPATH"] = os.pathsep.join([own_path, launch.environment["PYTHONPATH"]])
    _make_visible(environment, launch)
    if interface := find_gloo_interface(launch):
        environment.setdefault(GLOO_INTERFACE, interface)
    arguments = (
        sys.executable,
        "-u",
        "-m",
        "paddle.distributed.launch",
        selection,
        f"--log_dir={log_dir}",
        *_machine_options(launch),
        str(program.path),
        *program_arguments,
    )
    return LaunchCommand(arguments, environment, program.working_dir)


def visible_devices_variable(device: str) -> str | None:
    """Return the name of the variable that restricts the devices visible to Paddle's launcher, or None on cpu.

    The names are defined in Paddle's `launch/context/device.py`.
    """
    if device == "cpu":
        return None
    return "CUDA_VISIBLE_DEVICES" if device == "gpu" else f"{device.upper()}_VISIBLE_DEVICES"


def find_gloo_interface(launch: LaunchParameters) -> str | None:
    """Return the network interface for gloo, or None if gloo can find it by the machine's host name.

    Gloo fails if the host name does not resolve, as in some containers. If `launch.host` is set, return the interface
    that has this address. Otherwise, on a single machine whose host name does not resolve to one of its addresses,
    return the loopback interface, which is sufficient.
    """
    if launch.device != "cpu" or launch.ranks == 1:
        return None
    addresses = {entry.address: name for name, entries in psutil.net_if_addrs().items() for entry in entries}
    if launch.host is not None:
        return addresses.get(launch.host)
    try:
        is_found = socket.gethostbyname(socket.gethostname()) in addresses
    except OSError:
        is_found = False
    # Debian maps the host name to 127.0.1.1, which no interface lists.
    return None if is_found or not launch.is_one_machine else addresses.get(_LOOPBACK)


def _make_visible(environment: dict[str, str], launch: LaunchParameters) -> None:
    """Check that the devices are visible. If the variable that restricts visible devices is unset, set it.

    Paddle's launcher looks up each number in --gpus in CUDA_VISIBLE_DEVICES, so both use the numbers that nvidia-smi
    shows. An existing value is kept, because a scheduler may have given the other cards to other jobs.
    """
    variable = visible_devices_variable(launch.device)
    if variable is None:
        return
    given = environment.setdefault(variable, ",".join(map(str, launch.devices)))
    visible = [name.strip() for name in given.split(",")]
    missing = [number for number in launch.devices if str(number) not in visible]
    if missing and given != "all":
        raise ParameterError(
            f"training.launch.devices is {list(launch.devices)}, but {variable} is {given!r}, so Paddle does not see "
            f"{missing}; choose training.launch.devices from the numbers in {variable}, or unset {variable}"
        )


def _machine_options(launch: LaunchParameters) -> list[str]:
    """Return the launcher options for several machines."""
    if launch.is_one_machine:
        return []
    found = [f"--master={launch.master}", f"--nnodes={launch.nnodes}", f"--job_id={launch.job_id}"]
    if launch.is_elastic:
        # Machines can join and leave, so Paddle numbers them itself. At level 1, failed ranks are restarted.
        found += ["--elastic_level=1", f"--max_restart={launch.max_restarts}"]
    else:
        found += [f"--rank={launch.rank}"]
    if launch.host is not None:
        found += [f"--host={launch.host}"]
    return found
