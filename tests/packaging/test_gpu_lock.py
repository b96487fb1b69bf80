"""The GPU lock file lists the CUDA libraries that its version of Paddle loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from project_copy import PROJECT, copy_project

PROGRAM = """
import json, paddle
from paddle.base import core
from resnet50_pipeline.trainer.probes.cuda_libraries import find_paddle, missing_libraries, read_kernels
built_for = read_kernels(find_paddle())
print(json.dumps([paddle.version.cuda(), core.cudnn_version(), core.nccl_version(), missing_libraries(find_paddle()),
                  built_for.run_on((8, 9)), built_for.run_on((9, 0))]))
"""


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gpu_lock_installs_the_cuda_libraries_that_paddle_opens(tmp_path: Path):
    """Without a GPU, a driver or LD_LIBRARY_PATH, every library loads, with the versions that Paddle was built with.

    Paddle 2.6.2 from the package index runs on Ada, but not on Hopper.
    """
    root = tmp_path / "project"
    copy_project(root)
    shutil.copytree(PROJECT / "tools", root / "tools")
    for name in ("Makefile", "README.md", "setup.py", "requirements-gpu.lock"):
        shutil.copy(PROJECT / name, root)
    variables = {
        name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "MAKEFLAGS", "VIRTUAL_ENV")
    }
    subprocess.run(["make", "--silent", "setup", "GPU=1"], cwd=root, env=variables, check=True)

    command = [root / ".venv/bin/python", "-W", "ignore", "-c", PROGRAM]
    printed = subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True, text=True)
    assert json.loads(printed.stdout.splitlines()[-1]) == ["11.8", 8600, 21903, {}, True, False]
