"""The exact command that starts the ranks of this machine, and the environment they get."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import LaunchParameters

# By its path: the launcher starts a file, and this room does not import that one.
TRAINER_PROGRAM = Path(__file__).parents[1] / "trainer" / "__main__.py"

# Paddle's launcher writes its whole environment in clear into the log folder (envlog.N, backup_env.N.json), so the
# ranks are given what programs and Paddle need, by name, and nothing else: no token or password can leak from there.
_PASSED_NAMES = frozenset(
    {
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PADDLE_XCCL_BACKEND",
        "PATH",
        "PORT_RANGE",  # of the launcher's free ports, where a firewall lets few through
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
    *("BKCL_", "XPU"),  # Kunlunxin; XPULINK_VISIBLE_DEVICES too
    *("ILUVATAR_", "IXCCL_"),
    *("CNCL_", "MLU_"),  # Cambricon
    *("ECCL_", "TOPS_"),  # Enflame
    "CUSTOM_DEVICE_",  # CUSTOM_DEVICE_ROOT: where Paddle finds the plugin of a custom device
)
_PASSED_SUFFIX = "_VISIBLE_DEVICES"
_OF_PADDLE_ITSELF = ("cpu", "gpu", "xpu")


@dataclass(frozen=True)
class LaunchCommand:
    """What is started: arguments, and the whole environment (nothing is inherited besides)."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: Path | None = None
    """Where it runs; where this process does, unless given."""


@dataclass(frozen=True)
class Program:
    """What every rank runs: a file, what it imports from, and where it stands."""

    path: Path
    import_path: Path
    working_dir: Path | None = None


# The ranks import the very package that this process runs, installed or not.
TRAINER = Program(TRAINER_PROGRAM, import_path=TRAINER_PROGRAM.parents[2])


def build_launch_command(
    launch: LaunchParameters,
    log_dir: Path,
    program_arguments: Sequence[str],
    inherited: Mapping[str, str] | None = None,
    *,
    program: Program = TRAINER,
) -> LaunchCommand:
    """Return `python -u -m paddle.distributed.launch …` for the trainer program, or for another.

    `--gpus=0,1` on gpu, `--devices=0,1` on a custom device, `--nproc_per_node=2` on cpu, where cards have no numbers;
    with more than one machine `--master=host:port --nnodes=2 --rank=0` too.

    Args:
        launch: device, ranks and variables; `launch.environment` wins over what is inherited.
        log_dir: where the launcher puts `workerlog.<rank>`, and the home folder of the ranks.
        program_arguments: what follows the program's path.
        inherited: the environment to filter; that of this process where not given.
        program: what the ranks run.

    Raises:
        ParameterError: a device is not among those that the inherited `CUDA_VISIBLE_DEVICES` allows.
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
        "PYTHONSAFEPATH": "1",  # or the program's own folder would come first on the ranks' import path
        # Importing paddle creates ~/.cache/paddle, to_static writes there: it stays with the run.
        "HOME": str(log_dir.absolute() / "home"),
    }
    if launch.device not in _OF_PADDLE_ITSELF:
        # Paddle 2.6's launcher knows a custom device by this variable only; 3.x asks the plugins.
        environment["PADDLE_XCCL_BACKEND"] = launch.device
    # Packages of the user's come behind: they must not take the place of this one.
    own_path = environment["PYTHONPATH"]
    environment |= launch.environment
    if "PYTHONPATH" in launch.environment:
        environment["PYTHONPATH"] = os.pathsep.join([own_path, launch.environment["PYTHONPATH"]])
    _make_visible(environment, launch)
    arguments = (
        sys.executable,
        "-u",
        "-m",
        "paddle.distributed.launch",
        selection,
        f"--log_dir={log_dir}",
        *_meeting_place(launch),
        str(program.path),
        *program_arguments,
    )
    return LaunchCommand(arguments, environment, program.working_dir)


def visible_devices_variable(device: str) -> str | None:
    """Return the variable that limits what Paddle's launcher sees (`launch/context/device.py`); None on cpu."""
    if device == "cpu":
        return None
    return "CUDA_VISIBLE_DEVICES" if device == "gpu" else f"{device.upper()}_VISIBLE_DEVICES"


def _make_visible(environment: dict[str, str], launch: LaunchParameters) -> None:
    """Check the devices against the variable that limits them, and set it where nobody did.

    Paddle's launcher looks each number of --gpus up in CUDA_VISIBLE_DEVICES, so the numbers are those that nvidia-smi
    shows, with the variable too. It is left alone: a scheduler that set it has given the other cards to other jobs.
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
            f"{missing}: its launcher names devices by the numbers in {variable}; set training.launch.devices to "
            f"those, or unset {variable}"
        )


def _meeting_place(launch: LaunchParameters) -> list[str]:
    """Return what lets the launchers of several machines find one another."""
    if launch.machines == 1 and not launch.is_elastic:
        return []
    found = [f"--master={launch.master}", f"--nnodes={launch.nnodes}", f"--job_id={launch.job_id}"]
    if launch.is_elastic:
        # Machines come and go, so Paddle numbers them itself. Level 1: ranks that failed are started again.
        found += ["--elastic_level=1", f"--max_restart={launch.max_restarts}"]
    else:
        found += [f"--rank={launch.rank}"]
    if launch.host is not None:
        found += [f"--host={launch.host}"]
    return found
