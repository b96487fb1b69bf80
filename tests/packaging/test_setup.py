"""`make setup` installs what the lock says, once, and again when the lock changes: on a tiny project and real pip."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PYPROJECT = """\
[build-system]
requires = []
build-backend = "build_tiny"
backend-path = ["."]

[project]
name = "tiny-project"
version = "1.0"
"""
BACKEND = """\
import pathlib, shutil

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return pathlib.Path(shutil.copy("tiny_project-1.0-py3-none-any.whl", wheel_directory)).name
"""


def write_wheel(folder: Path, name: str, version: str, module: str, requires: str = "") -> str:
    """Write a wheel with one module, whose ORIGIN is `name` and `version`; return its lines of a lock file."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: toml\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    members = {
        f"{module}.py": f"ORIGIN = '{name} {version}'\n",
        f"{stem}.dist-info/METADATA": metadata,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{stem}.dist-info/RECORD"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
        archive.writestr(record, "".join(f"{path},,\n" for path in [*members, record]))
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class TinyProject:
    """A project folder, with a space in its path, that has this project's Makefile and setup and two wheels to lock."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a project"
        self.wheels = folder / "wheels"
        self.wheels.mkdir(parents=True)
        (self.root / "tools").mkdir(parents=True)
        shutil.copy(PROJECT / "Makefile", self.root)
        shutil.copy(PROJECT / "tools" / "setup.sh", self.root / "tools")
        (self.root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        (self.root / "build_tiny.py").write_text(BACKEND, encoding="utf-8")
        write_wheel(self.root, "tiny-project", "1.0", module="tiny_project")
        self.lock("requirements.lock", "tiny", "1.0")
        self.lock("requirements-gpu.lock", "tiny-gpu", "1.0")

    def lock(self, file: str, name: str, version: str) -> None:
        """Make a wheel with the module `tiny` and write a lock file that names it and nothing else."""
        (self.root / file).write_text(write_wheel(self.wheels, name, version, module="tiny"), encoding="utf-8")

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make in the project, with pip seeing nothing but the wheels."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
        settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env={**inherited, **settings, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def origin(self) -> str:
        """Return what the environment's `tiny` says of itself."""
        return self.run_python("import tiny; print(tiny.ORIGIN)")

    def run_python(self, code: str) -> str:
        """Return what `code` prints in the environment."""
        python = self.root / ".venv" / "bin" / "python"
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    """A tiny project in which nothing is installed."""
    return TinyProject(tmp_path)


@pytest.fixture(scope="module")
def installed_once(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A tiny project after its first `make setup`; tests only look at it."""
    project = TinyProject(tmp_path_factory.mktemp("installed"))
    result = project.make("setup")
    assert result.returncode == 0, result.stdout + result.stderr
    return project


def snapshot(folder: Path) -> dict[Path, int]:
    """Return the modification times of everything below `folder`."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_setup_installs_the_locked_package_and_the_project(installed_once: TinyProject) -> None:
    """After `make setup` the locked package and the project itself can be imported from .venv."""
    assert installed_once.origin() == "tiny 1.0"
    version = "import importlib.metadata as m; print(m.version('tiny-project'))"
    assert installed_once.run_python(version) == "1.0"


@pytest.mark.slow
def test_a_second_setup_does_nothing(installed_once: TinyProject) -> None:
    """`make setup` on an environment that is up to date prints nothing and touches no file."""
    before = snapshot(installed_once.root)
    result = installed_once.make("setup")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert snapshot(installed_once.root) == before


@pytest.mark.slow
def test_a_changed_lock_is_installed_and_what_it_dropped_removed(project: TinyProject) -> None:
    """Another version in the lock is installed; the GPU lock replaces the CPU package, and is remembered."""
    assert project.make("setup").returncode == 0
    project.lock("requirements.lock", "tiny", "2.0")
    assert project.make("setup").returncode == 0
    assert project.origin() == "tiny 2.0"

    assert project.make("setup", "GPU=1").returncode == 0
    assert project.origin() == "tiny-gpu 1.0"
    names = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions() if 'tiny' in d.name))"
    assert project.run_python(names) == "['tiny-gpu', 'tiny-project']"
    again = project.make("setup")
    assert (again.returncode, again.stdout) == (0, "")

    assert project.make("setup", "LOCK=requirements.lock").returncode == 0
    assert project.origin() == "tiny 2.0"


@pytest.mark.slow
def test_a_release_after_the_lock_changes_nothing(project: TinyProject) -> None:
    """A package that another asks for with an extra is installed as locked, though a newer one was released since."""
    user = write_wheel(project.wheels, "tiny-user", "1.0", module="tiny_user", requires="tiny[toml]>=1.0")
    with (project.root / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write(user)
    write_wheel(project.wheels, "tiny", "2.0", module="tiny")
    result = project.make("setup")
    assert result.returncode == 0, result.stderr
    assert project.origin() == "tiny 1.0"


@pytest.mark.slow
def test_a_lock_that_lacks_a_package_stops_the_setup(project: TinyProject) -> None:
    """What a locked package needs and the lock does not name is said, and what to do."""
    needy = write_wheel(project.wheels, "tiny-user", "1.0", module="tiny_user", requires="absent>=1.0")
    (project.root / "requirements.lock").write_text(needy, encoding="utf-8")
    result = project.make("setup")
    assert result.returncode != 0
    assert "tiny-user 1.0 requires absent, which is not installed" in result.stderr
    assert "make lock" in result.stderr


@pytest.mark.slow
def test_a_setup_that_fails_half_way_is_taken_up_again(project: TinyProject) -> None:
    """A wheel that is not what the lock says stops the setup with pip's word; the next setup completes it."""
    lock = project.root / "requirements.lock"
    right = lock.read_text(encoding="utf-8")
    lock.write_text(right[:-65] + "0" * 64 + "\n", encoding="utf-8")
    result = project.make("setup")
    assert result.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in result.stderr
    lock.write_text(right, encoding="utf-8")
    assert project.make("setup").returncode == 0
    assert project.origin() == "tiny 1.0"


@pytest.mark.slow
def test_a_moved_project_gets_its_environment_anew(project: TinyProject) -> None:
    """Programs in .venv start by absolute path, so a folder that was moved or copied is installed again."""
    assert project.make("setup").returncode == 0
    project.root = project.root.rename(project.root.with_name("moved"))
    result = project.make("setup")
    assert result.returncode == 0, result.stderr
    assert "has moved here" in result.stdout
    pip = (project.root / ".venv" / "bin" / "pip").read_text(encoding="utf-8")
    assert str(project.root) in pip


@pytest.fixture
def fake_programs(tmp_path: Path) -> Callable[[str, str], str]:
    """Return a function that writes a program (name, sh code) and gives the PATH on which it comes first."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def write(name: str, code: str) -> str:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return f"{folder}:{os.environ['PATH']}"

    return write


def test_another_python_is_refused_in_one_message(
    project: TinyProject, fake_programs: Callable[[str, str], str]
) -> None:
    """Without a Python 3.11 the setup says what is needed and how to name one, and makes no .venv."""
    fake_programs("python3", "exit 1")
    path = fake_programs("python3.11", "exit 1")
    result = project.make("setup", PATH=path)
    assert result.returncode != 0
    assert result.stderr.startswith("setup: Python 3.11 is needed")
    assert "make setup PYTHON=" in result.stderr
    assert not (project.root / ".venv").exists()


def test_a_missing_system_library_is_named_before_anything_is_installed(
    project: TinyProject, fake_programs: Callable[[str, str], str]
) -> None:
    """A user who is not root reads the one command that installs what is missing."""
    path = fake_programs("id", "echo 1000")
    fake_programs("python3.11", 'case "$*" in *libGL*) exit 1 ;; *) exit 0 ;; esac')
    fake_programs("apt-get", "echo must not be called >&2; exit 1")
    result = project.make("setup", PATH=path)
    assert result.returncode != 0
    assert "sudo apt-get install -y libgl1\n" in result.stderr
    assert not (project.root / ".venv").exists()


def test_root_installs_missing_system_packages(
    project: TinyProject, fake_programs: Callable[[str, str], str], tmp_path: Path
) -> None:
    """Where the user is root and apt-get is there, exactly the missing packages are installed."""
    calls = tmp_path / "calls"
    fake_programs("id", "echo 0")
    fake_programs("apt-get", f"echo \"$*\" >>'{calls}'")
    path = fake_programs(
        "python3.11",
        f"[ -e '{calls}' ] && exit 1\ncase \"$*\" in *libgthread*|*ensurepip*) exit 1 ;; *) exit 0 ;; esac",
    )
    result = project.make("setup", PATH=path)
    assert result.returncode != 0  # the fake interpreter cannot go on from here
    installed = calls.read_text(encoding="utf-8").splitlines()[1]
    assert installed.endswith("--no-install-recommends python3.11-venv libglib2.0-0")


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("setup", 'sh tools/setup.sh "requirements.lock" ".venv"'),
        ("preflight", ".venv/bin/kedro preflight"),
        ("run", ".venv/bin/kedro run"),
        ("repro", ".venv/bin/dvc repro"),
        ("test", ".venv/bin/pytest"),
        ("lint", ".venv/bin/lint-imports"),
        ("docs", ".venv/bin/mkdocs build --strict"),
        ("notebook", ".venv/bin/python tools/run_notebook.py"),
        ("ui", '--host "127.0.0.1" --port "5000"'),
    ],
)
def test_every_command_stands_on_setup(project: TinyProject, target: str, command: str) -> None:
    """`make TARGET` runs the setup first and then its own program from .venv."""
    lines = project.make("-n", target).stdout.splitlines()
    assert lines[0] == 'sh tools/setup.sh "requirements.lock" ".venv"'
    assert any(command in line for line in lines)


def test_telemetry_is_off_in_every_command(project: TinyProject) -> None:
    """What make starts has the switches of Kedro, MLflow, DVC and Great Expectations set to off."""
    (project.root / "print.mk").write_text("include Makefile\nprint-environment:\n\t@env\n", encoding="utf-8")
    environment = project.make("-f", "print.mk", "print-environment").stdout.splitlines()
    for setting in (
        "DO_NOT_TRACK=true",
        "KEDRO_DISABLE_TELEMETRY=1",
        "MLFLOW_DISABLE_TELEMETRY=true",
        "DVC_NO_ANALYTICS=1",
        "GX_ANALYTICS_ENABLED=false",
    ):
        assert setting in environment


def test_clean_leaves_the_users_results(project: TinyProject) -> None:
    """`make distclean` deletes caches, sample and .venv, and neither ImageNet results nor the MLflow database."""
    for folder in (
        "data/sample",
        "data/test",
        "data/imagenet",
        "mlartifacts",
        ".venv",
        ".mypy_cache",
        "src",
        "tests",
        "benchmarks",
    ):
        (project.root / folder).mkdir(parents=True)
    (project.root / "mlflow.db").touch()
    result = project.make("distclean")
    assert result.returncode == 0, result.stderr
    left = {str(path.relative_to(project.root)) for path in project.root.rglob("*") if path.is_dir()}
    assert left == {"data", "data/imagenet", "mlartifacts", "src", "tests", "benchmarks", "tools"}
    assert "kept: mlflow.db" in result.stdout
    assert "kept: data/imagenet" in result.stdout
