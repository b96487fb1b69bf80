"""`make setup` installs the lock files once, and again if they change. The tests use real pip and uv."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
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
    """Write a wheel with one module whose ORIGIN is `name` and `version`. Return the wheel's lines for a lock file."""
    return pack_wheel(folder, name, version, {f"{module}.py": f"ORIGIN = '{name} {version}'\n"}, requires)


def write_uv(folder: Path) -> str:
    """Write a wheel whose program `uv` starts this environment's uv, and return the wheel's lines for a lock file."""
    version = importlib.metadata.version("uv")
    program = f"#!/bin/sh\nexec '{Path(sys.executable).with_name('uv')}' \"$@\"\n"
    return pack_wheel(folder, "uv", version, {f"uv-{version}.data/scripts/uv": program})


def pack_wheel(folder: Path, name: str, version: str, files: Mapping[str, str], requires: str = "") -> str:
    """Write a wheel of text files and return the wheel's lines for a lock file."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: toml\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    members = {
        **files,
        f"{stem}.dist-info/METADATA": metadata,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{stem}.dist-info/RECORD"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in members.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (stat.S_IFREG | (0o755 if "/scripts/" in path else 0o644)) << 16
            archive.writestr(entry, text)
        archive.writestr(record, "".join(f"{path},,\n" for path in [*members, record]))
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class TinyProject:
    """A project folder, with a space in its path, that has this project's Makefile and setup, and wheels to lock."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a project"
        self.wheels = folder / "wheels"
        self.cache = folder / "uv cache"
        self.wheels.mkdir(parents=True)
        (self.root / "tools").mkdir(parents=True)
        shutil.copy(PROJECT / "Makefile", self.root)
        for tool in ("setup.sh", "uv_settings.py"):
            shutil.copy(PROJECT / "tools" / tool, self.root / "tools")
        (self.root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        (self.root / "build_tiny.py").write_text(BACKEND, encoding="utf-8")
        write_wheel(self.root, "tiny-project", "1.0", module="tiny_project")
        self.uv = write_uv(self.wheels)
        self.lock("requirements.lock", "tiny", "1.0")
        self.lock("requirements-gpu.lock", "tiny-gpu", "1.0")
        self.lock_developer_packages("1.0")

    def lock(self, file: str, name: str, version: str) -> None:
        """Make a wheel with the module `tiny` and write a lock file that contains this wheel and uv."""
        wheel = write_wheel(self.wheels, name, version, module="tiny")
        (self.root / file).write_text(self.uv + wheel, encoding="utf-8")

    def lock_developer_packages(self, version: str) -> None:
        """Make a wheel with the module `tiny_dev` and write the developer lock file."""
        wheel = write_wheel(self.wheels, "tiny-dev", version, module="tiny_dev")
        (self.root / "requirements-dev.lock").write_text(wheel, encoding="utf-8")

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the variables of this process with settings that let pip see only the wheels of the project."""
        foreign = ("PIP_", "UV_", "MAKE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        return {**inherited, **settings, "UV_CACHE_DIR": str(self.cache), **variables}

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run make in the project."""
        return subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )

    def packages(self) -> list[str]:
        """Return the names of the tiny packages in the environment."""
        names = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions() if 'tiny' in d.name))"
        return self.run_python(names).split()

    def origin(self) -> str:
        """Return the ORIGIN of the installed module `tiny`."""
        return self.run_python("import tiny; print(tiny.ORIGIN)")

    def run_python(self, code: str) -> str:
        """Run `code` in the environment and return its output."""
        python = self.root / ".venv" / "bin" / "python"
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    """A tiny project before its first setup."""
    return TinyProject(tmp_path)


@pytest.fixture(scope="module")
def installed_once(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A tiny project after its first `make setup`; tests do not change it."""
    project = TinyProject(tmp_path_factory.mktemp("installed"))
    result = project.make("setup")
    assert result.returncode == 0, result.stdout + result.stderr
    return project


def snapshot(folder: Path) -> dict[Path, int]:
    """Return the modification times of all files and folders in `folder`."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_setup_installs_the_locked_package_and_the_project(installed_once: TinyProject) -> None:
    """After `make setup`, .venv can import the locked package and the project."""
    assert installed_once.origin() == "tiny 1.0"
    version = "import importlib.metadata as m; print(m.version('tiny-project'))"
    assert installed_once.run_python(version) == "1.0"


@pytest.mark.slow
def test_every_program_of_the_environment_has_its_settings(installed_once: TinyProject) -> None:
    """Even without make, telemetry is off and library caches are in the project. Existing variables are kept."""
    shown = "import os; print(*(os.environ.get(n) for n in {}), sep='|')".format(
        ["DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "MPLCONFIGDIR", "DVC_SITE_CACHE_DIR"]
    )
    python, root = installed_once.root / ".venv" / "bin" / "python", installed_once.root
    environment = {"PATH": os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([python, "-c", shown], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().split("|") == ["true", "0", f"{root}/.venv/matplotlib", f"{root}/.dvc/tmp/site"]


@pytest.mark.slow
def test_a_second_setup_does_nothing(installed_once: TinyProject) -> None:
    """`make setup` on a current environment prints nothing and changes no file."""
    before = snapshot(installed_once.root)
    result = installed_once.make("setup")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert snapshot(installed_once.root) == before


@pytest.mark.slow
def test_a_changed_lock_is_installed_and_dropped_packages_are_removed(project: TinyProject) -> None:
    """A new version in the lock file is installed. The GPU lock file replaces the CPU package and stays selected."""
    assert project.make("setup").returncode == 0
    project.lock("requirements.lock", "tiny", "2.0")
    assert project.make("setup").returncode == 0
    assert project.origin() == "tiny 2.0"

    assert project.make("setup", "GPU=1").returncode == 0
    assert project.origin() == "tiny-gpu 1.0"
    assert project.packages() == ["tiny-gpu", "tiny-project"]
    again = project.make("setup")
    assert (again.returncode, again.stdout) == (0, "")

    assert project.make("setup", "LOCK=requirements.lock").returncode == 0
    assert project.origin() == "tiny 2.0"


@pytest.mark.slow
def test_a_release_after_the_lock_changes_nothing(project: TinyProject) -> None:
    """A package required with an extra is installed in its locked version even if a newer release exists."""
    user = write_wheel(project.wheels, "tiny-user", "1.0", module="tiny_user", requires="tiny[toml]>=1.0")
    with (project.root / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write(user)
    write_wheel(project.wheels, "tiny", "2.0", module="tiny")
    result = project.make("setup")
    assert result.returncode == 0, result.stderr
    assert project.origin() == "tiny 1.0"


@pytest.mark.slow
def test_a_lock_that_lacks_a_package_stops_the_setup(project: TinyProject) -> None:
    """If a locked package requires a package that is not in the lock file, setup fails and lists both."""
    needy = write_wheel(project.wheels, "tiny-user", "1.0", module="tiny_user", requires="absent>=1.0")
    (project.root / "requirements.lock").write_text(project.uv + needy, encoding="utf-8")
    result = project.make("setup")
    assert result.returncode != 0
    assert "tiny-user" in result.stderr
    assert "absent>=1.0" in result.stderr
    assert "make lock" in result.stderr
    assert project.make("setup").returncode != 0


@pytest.mark.slow
def test_a_setup_that_fails_resumes(project: TinyProject) -> None:
    """A wheel with the wrong hash stops setup, and the error identifies the package. The next setup succeeds."""
    lock = project.root / "requirements.lock"
    right = lock.read_text(encoding="utf-8")
    lock.write_text(right[:-65] + "0" * 64 + "\n", encoding="utf-8")
    result = project.make("setup")
    assert result.returncode != 0
    assert "tiny==1.0" in result.stderr
    assert f"sha256:{'0' * 64}" in result.stderr
    lock.write_text(right, encoding="utf-8")
    assert project.make("setup").returncode == 0
    assert project.origin() == "tiny 1.0"


@pytest.mark.slow
def test_a_killed_setup_installs_incomplete_packages_again(project: TinyProject) -> None:
    """A package that a killed installation left without its module is complete after the next setup."""
    assert project.make("setup").returncode == 0
    project.lock("requirements.lock", "tiny", "2.0")
    (site,) = (project.root / ".venv" / "lib").glob("python*/site-packages")
    program = project.root / ".venv" / "bin" / "uv"
    real = program.read_text(encoding="utf-8")
    program.unlink()  # a hard link into uv's cache
    half = f"rm '{site}/tiny.py'; mv '{site}/tiny-1.0.dist-info' '{site}/tiny-2.0.dist-info'"
    kill = f'case "$*" in *" install "*) {half}; kill -KILL $PPID ;; esac'
    program.write_text(real.replace("\n", f"\n{kill}\n", 1), encoding="utf-8")
    program.chmod(0o755)
    assert project.make("setup").returncode != 0

    program.write_text(real, encoding="utf-8")
    metadata = site / "tiny-2.0.dist-info" / "METADATA"
    text = metadata.read_text(encoding="utf-8").replace("1.0", "2.0")
    metadata.unlink()
    metadata.write_text(text, encoding="utf-8")
    result = project.make("setup")
    assert result.returncode == 0, result.stderr
    assert project.origin() == "tiny 2.0"


@pytest.mark.slow
def test_developer_packages_stay_installed(project: TinyProject) -> None:
    """`make setup-dev` adds packages; `make setup` then neither installs nor removes any, but follows both locks."""
    assert project.make("setup").returncode == 0
    assert project.packages() == ["tiny", "tiny-project"]
    added = project.make("setup-dev")
    assert added.returncode == 0, added.stderr
    assert project.packages() == ["tiny", "tiny-dev", "tiny-project"]
    before = snapshot(project.root)
    for target in ("setup", "setup-dev"):
        again = project.make(target)
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert snapshot(project.root) == before

    project.lock_developer_packages("2.0")
    assert project.make("setup", "GPU=1").returncode == 0
    assert project.run_python("import tiny_dev; print(tiny_dev.ORIGIN)") == "tiny-dev 2.0"
    assert project.packages() == ["tiny-dev", "tiny-gpu", "tiny-project"]


@pytest.mark.slow
def test_a_replaced_package_stays_until_its_lock_changes(project: TinyProject) -> None:
    """A build that a user has installed over a locked package survives `make setup-dev` and a new pyproject.toml."""
    assert project.make("setup").returncode == 0
    (site,) = (project.root / ".venv" / "lib").glob("python*/site-packages")
    (site / "tiny.py").unlink()  # a hard link into uv's cache
    (site / "tiny.py").write_text("ORIGIN = 'own build'\n", encoding="utf-8")
    (project.root / "pyproject.toml").write_text(f"{PYPROJECT}description = 'changed'\n", encoding="utf-8")
    result = project.make("setup-dev")
    assert result.returncode == 0, result.stderr
    assert project.origin() == "own build"

    project.lock("requirements.lock", "tiny", "2.0")
    assert project.make("setup").returncode == 0
    assert project.origin() == "tiny 2.0"


@pytest.mark.slow
def test_clones_share_the_files_of_packages(installed_once: TinyProject) -> None:
    """Environments on the file system of uv's cache use no additional space for files that are in the cache."""
    clone = copy.copy(installed_once)
    clone.root = installed_once.root.with_name("a clone")
    shutil.copytree(installed_once.root, clone.root, ignore=shutil.ignore_patterns(".venv"))
    result = clone.make("setup", UV_LINK_MODE="hardlink")
    assert result.returncode == 0, result.stderr
    (module,) = (clone.root / ".venv" / "lib").glob("python*/site-packages/tiny.py")
    assert module.stat().st_nlink > 1


@pytest.mark.slow
def test_an_unusable_cache_folder_is_not_needed(project: TinyProject) -> None:
    """If uv's cache folder cannot be created, the setup installs without a cache."""
    project.root.with_name("file").touch()
    result = project.make("setup", UV_CACHE_DIR=str(project.root.with_name("file") / "cache"))
    assert result.returncode == 0, result.stderr
    assert project.origin() == "tiny 1.0"


@pytest.mark.slow
def test_pip_configuration_files_apply(project: TinyProject, tmp_path: Path) -> None:
    """Packages come from the folder in pip's configuration file."""
    configuration = tmp_path / "pip.conf"
    text = f"[global]\nno-index = true\n[install]\nfind-links = {project.wheels}\n"
    configuration.write_text(text, encoding="utf-8")
    result = project.make("setup", PIP_CONFIG_FILE=str(configuration), PIP_NO_INDEX="", PIP_FIND_LINKS="")
    assert result.returncode == 0, result.stderr
    assert project.origin() == "tiny 1.0"


@pytest.mark.slow
def test_a_moved_project_gets_a_new_environment(project: TinyProject) -> None:
    """Programs in .venv start by absolute path, so setup reinstalls the same packages if the folder has been moved."""
    assert project.make("setup-dev").returncode == 0
    project.root = project.root.rename(project.root.with_name("moved"))
    result = project.make("setup")
    assert result.returncode == 0, result.stderr
    assert "has moved here" in result.stdout
    activate = (project.root / ".venv" / "bin" / "activate").read_text(encoding="utf-8")
    assert str(project.root) in activate
    assert project.packages() == ["tiny", "tiny-dev", "tiny-project"]


@pytest.fixture
def fake_programs(tmp_path: Path) -> Callable[[str, str], str]:
    """Return a function that writes a program (name, sh code) and returns a PATH that starts with its folder."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def write(name: str, code: str) -> str:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return f"{folder}:{os.environ['PATH']}"

    return write


PYTHONS = ("python3", "python3.13", "python3.12", "python3.11")


def test_an_unsupported_python_version_is_rejected(
    project: TinyProject, fake_programs: Callable[[str, str], str]
) -> None:
    """Without a supported Python, setup prints the versions and how to set its path, and creates no .venv."""
    for name in PYTHONS:
        path = fake_programs(name, "echo 3.10")
    result = project.make("setup", PATH=path)
    assert result.returncode != 0
    assert "3.11 3.12 3.13" in result.stderr
    assert "make setup PYTHON=" in result.stderr
    assert not (project.root / ".venv").exists()


def test_the_lock_decides_which_python_versions_are_supported(project: TinyProject) -> None:
    """If the lock file does not support the interpreter in PYTHON, setup does not choose another one."""
    lock = project.root / "requirements.lock"
    lock.write_text(f"# For Python 3.9 3.10.\n{lock.read_text(encoding='utf-8')}", encoding="utf-8")
    result = project.make("setup", f"PYTHON={sys.executable}")
    assert result.returncode != 0
    assert "3.9 3.10" in result.stderr
    assert sys.executable in result.stderr
    assert not (project.root / ".venv").exists()


@pytest.mark.slow
def test_another_python_creates_the_environment_again(
    project: TinyProject, fake_programs: Callable[[str, str], str]
) -> None:
    """If PYTHON has a different version from .venv, .venv is created again with the same packages."""
    assert project.make("setup-dev").returncode == 0
    same = project.make("setup", f"PYTHON={sys.executable}")
    assert (same.returncode, same.stdout) == (0, "")
    path = fake_programs(
        "python-other", f'case "$*" in *version_info*) echo 3.12 ;; *) exec {sys.executable} "$@" ;; esac'
    )
    result = project.make("setup", "PYTHON=python-other", PATH=path)
    assert result.returncode == 0, result.stderr
    assert "creating .venv again" in result.stdout
    assert project.packages() == ["tiny", "tiny-dev", "tiny-project"]


def test_a_missing_pip_wheel_is_named_before_anything_is_installed(
    project: TinyProject, fake_programs: Callable[[str, str], str]
) -> None:
    """A user without root access gets the command that installs Python's pip wheel."""
    path = fake_programs("id", "echo 1000")
    fake_programs("python3", 'case "$*" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac')
    fake_programs("apt-get", "echo must not be called >&2; exit 1")
    result = project.make("setup", PATH=path)
    assert result.returncode != 0
    assert "sudo apt-get install -y python3.12-venv" in result.stderr
    assert not (project.root / ".venv").exists()


def test_root_installs_a_missing_pip_wheel(
    project: TinyProject, fake_programs: Callable[[str, str], str], tmp_path: Path
) -> None:
    """As root with apt-get, setup installs the missing package and nothing else."""
    calls = tmp_path / "calls"
    fake_programs("id", "echo 0")
    fake_programs("apt-get", f"echo \"$*\" >>'{calls}'")
    path = fake_programs(
        "python3",
        f"case \"$*\" in *version_info*) echo 3.12 ;; *ensurepip*) [ -e '{calls}' ] ;; *libgomp*) ;; *) exit 1 ;; esac",
    )
    result = project.make("setup", PATH=path)
    assert result.returncode != 0  # the fake interpreter cannot create an environment
    installed = calls.read_text(encoding="utf-8").splitlines()[1]
    assert installed.endswith("--no-install-recommends python3.12-venv")


def test_a_missing_libgomp_is_named_before_anything_is_installed(
    project: TinyProject, fake_programs: Callable[[str, str], str]
) -> None:
    """A user without root access gets the command that installs the library that Paddle loads."""
    path = fake_programs("id", "echo 1000")
    fake_programs("python3", 'case "$*" in *libgomp*) exit 1 ;; *) echo 3.12 ;; esac')
    fake_programs("apt-get", "echo must not be called >&2; exit 1")
    result = project.make("setup", PATH=path)
    assert result.returncode != 0
    assert "sudo apt-get install -y libgomp1 " in result.stderr
    assert not (project.root / ".venv").exists()


USER_SETUP = 'sh tools/setup.sh "requirements.lock" ".venv"'
DEVELOPER_SETUP = f"{USER_SETUP} requirements-dev.lock"


@pytest.mark.parametrize(
    ("target", "setup", "command"),
    [
        ("setup", USER_SETUP, USER_SETUP),
        ("preflight", USER_SETUP, ".venv/bin/kedro preflight"),
        ("run", USER_SETUP, ".venv/bin/kedro run"),
        ("repro", USER_SETUP, ".venv/bin/dvc repro"),
        ("sweep", USER_SETUP, ".venv/bin/kedro sweep"),
        ("ui", USER_SETUP, '--host "127.0.0.1" --port "5000"'),
        ("viz", USER_SETUP, ".venv/bin/kedro viz"),
        ("test", DEVELOPER_SETUP, ".venv/bin/pytest"),
        ("lint", DEVELOPER_SETUP, ".venv/bin/lint-imports"),
        ("docs", DEVELOPER_SETUP, ".venv/bin/mkdocs build --strict"),
        ("notebook", DEVELOPER_SETUP, ".venv/bin/python tools/run_notebook.py"),
    ],
)
def test_every_command_installs_what_it_needs(project: TinyProject, target: str, setup: str, command: str) -> None:
    """`make TARGET` first installs the user or developer dependencies and then starts its program from .venv."""
    lines = project.make("-n", target).stdout.splitlines()
    assert lines[0] == setup
    assert any(command in line for line in lines)


def test_telemetry_is_off_in_every_command(project: TinyProject) -> None:
    """In every command that make starts, the telemetry of Kedro, MLflow, DVC and Great Expectations is off."""
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
    """`make distclean` deletes caches, .venv and sample results, but no images, ImageNet results or runs."""
    for folder in (
        "data/sample/01_raw/digits",
        "data/sample/08_reporting",
        "data/test/06_models/training",
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
    added = project.root / "data/sample/01_raw/digits/mine.JPEG"
    added.write_bytes(b"added by the user")
    result = project.make("distclean")
    assert result.returncode == 0, result.stderr
    left = {str(path.relative_to(project.root)) for path in project.root.rglob("*") if path.is_dir()}
    data = {"data", "data/imagenet", "data/test", "data/sample", "data/sample/01_raw", "data/sample/01_raw/digits"}
    assert left == {*data, "mlartifacts", "src", "tests", "benchmarks", "tools"}
    assert added.read_bytes() == b"added by the user"
    kept = {line.removeprefix("kept: ") for line in result.stdout.splitlines() if line.startswith("kept: ")}
    assert kept == {"data/sample", "data/test", "data/imagenet", "mlartifacts", "mlflow.db"}
