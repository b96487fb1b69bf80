"""The examples in docs/deployment.md repeat exactly the failures that may not occur again."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from resnet50_pipeline.exceptions import (
    RETRY_EXIT_CODE,
    LoaderProcessError,
    LoaderProcessKilledError,
    NonFiniteLossError,
    ParameterError,
    RankFailedError,
    ReplicasDifferError,
    RunInterruptedError,
    TrackingUnreachableError,
)

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
REPEATED = [
    RankFailedError("", is_transient=True),
    LoaderProcessKilledError(),
    TrackingUnreachableError(),
    RunInterruptedError(15),
    RunInterruptedError(1),
]
FINAL = [
    RankFailedError(""),
    LoaderProcessError(),
    NonFiniteLossError(),
    ParameterError(),
    ReplicasDifferError(),
    RunInterruptedError(2),
]
KILLED = 137


def block(language: str, first_line: str) -> str:
    (found,) = [
        text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if text.startswith(first_line)
    ]
    return found


@pytest.mark.parametrize(
    ("code", "is_repeated"),
    [*((error.exit_code, True) for error in REPEATED), (KILLED, True), *((error.exit_code, False) for error in FINAL)],
)
def test_slurm_script(tmp_path: Path, code: int, is_repeated: bool) -> None:
    """The batch script requeues the job after the failures in `REPEATED` and after SIGKILL, and keeps the exit code."""
    for name, text in {"srun": f"exit {code}", "scontrol": 'echo "$*" >calls'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    script = block("sh", "#!/bin/bash")
    for restarts, is_below_limit in (("9", True), ("10", False)):
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment | {"SLURM_RESTART_COUNT": restarts}, check=False
        )
        assert done.returncode == code
        assert (tmp_path / "calls").exists() == (is_repeated and is_below_limit)
        (tmp_path / "calls").unlink(missing_ok=True)


def test_kubernetes_policy() -> None:
    """The pod failure policy ends the Job unless its container has one of these exit codes."""
    spec = yaml.safe_load(block("yaml", "apiVersion: batch/v1"))["spec"]
    (rule,) = [one["onExitCodes"] for one in spec["podFailurePolicy"]["rules"] if one["action"] == "FailJob"]
    assert rule["operator"] == "NotIn"
    assert rule["containerName"] == spec["template"]["spec"]["containers"][0]["name"]
    assert set(rule["values"]) == {error.exit_code for error in REPEATED} | {KILLED}
    assert not set(rule["values"]) & {error.exit_code for error in FINAL}
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # Kubernetes requires this with a pod failure policy
    assert RETRY_EXIT_CODE == os.EX_TEMPFAIL
