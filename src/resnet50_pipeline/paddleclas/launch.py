"""The exact command that starts the ranks, and the environment they get."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.training_dir import SUPERVISOR_PID

# By its path: the launcher starts a file, and this room does not import that one.
TRAINER_PROGRAM = Path(__file__).parents[1] / "trainer" / "__main__.py"

# Paddle's launcher writes its whole environment in clear into the log folder (envlog.N, backup_env.N.json), so the
# ranks are given what programs and Paddle need, by name, and nothing else: no token or password can leak from there.
_PASSED_NAMES = frozenset(
    {"LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)
_PASSED_PREFIXES = ("CUDA_", "FLAGS_", "GLOO_", "KMP_", "LC_", "MKL_", "NCCL_", "OMP_", "OPENBLAS_", "XPU_")


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

    `--gpus=0,1` on gpu, `--devices=0,1` on a custom device, `--nproc_per_node=2` on cpu, where cards have no numbers.

    Args:
        launch: device, ranks and variables; `launch.environment` wins over what is inherited.
        log_dir: where the launcher puts `workerlog.<rank>`, and the home folder of the ranks.
        program_arguments: what follows the program's path.
        inherited: the environment to filter; that of this process where not given.
        program: what the ranks run.
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
        if name in _PASSED_NAMES or name.startswith(_PASSED_PREFIXES)
    }
    environment |= {
        "OMP_NUM_THREADS": str(launch.threads_per_rank),
        "PYTHONPATH": str(program.import_path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # or the program's own folder would come first on the ranks' import path
        SUPERVISOR_PID: str(os.getpid()),
        # Importing paddle creates ~/.cache/paddle, to_static writes there: it stays with the run.
        "HOME": str(log_dir.absolute() / "home"),
    }
    if launch.device == "gpu":
        environment["CUDA_VISIBLE_DEVICES"] = devices
    environment |= launch.environment
    arguments = (
        sys.executable,
        "-u",
        "-m",
        "paddle.distributed.launch",
        selection,
        f"--log_dir={log_dir}",
        str(program.path),
        *program_arguments,
    )
    return LaunchCommand(arguments, environment, program.working_dir)
