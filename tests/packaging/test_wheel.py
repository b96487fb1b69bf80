"""The wheel and the archive that `kedro package` writes contain the entire project and run it in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from resnet50_pipeline.commands.package import write_configuration_archive
from resnet50_pipeline.recipes import RecipeConfigLoader

PROJECT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (PROJECT / "conf" / "recipes").glob("*.yml"))
ARCHIVE = "conf-resnet50_pipeline.tar.gz"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=probe", "-c", "user.email=probe@example.com"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A committed copy of the project with secrets in conf/local, after `kedro package`."""
    root = tmp_path_factory.mktemp("packaged") / "project"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", ".gitignore"):
        shutil.copy(PROJECT / name, root)
    (root / "conf" / "local" / "below").mkdir(parents=True)
    for secret in ("credentials.yml", "credentials.yaml", "below/credentials.yml"):
        (root / "conf" / "local" / secret).write_text("token: canary-5f3e\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    command = [Path(sys.executable).with_name("kedro"), "package"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["dist/resnet50_pipeline-0.1.0-py3-none-any.whl", f"dist/{ARCHIVE}"]
    return root


@pytest.fixture(scope="module")
def plain(source: Path, tmp_path_factory) -> Path | None:
    """The bin folder of an environment that was set up with pip as documented, or None if there is no index."""
    root = tmp_path_factory.mktemp("plain") / "venv"
    subprocess.run([sys.executable, "-m", "venv", root], check=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
    environment = {**kept, "PATH": "/usr/bin:/bin", "HOME": str(root.parent)}

    def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [root / "bin" / "pip", "--disable-pip-version-check", "--no-input", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    alone = ("--no-deps", "paddleclas==2.6.0")
    if pip("download", "--retries", "0", "--timeout", "10", "--dest", str(root.parent), *alone).returncode != 0:
        return None
    (wheel,) = (source / "dist").glob("*.whl")
    for arguments in ([f"{wheel}[cpu]"], alone):
        done = pip("install", "--quiet", "--no-compile", *arguments)
        assert done.returncode == 0, done.stderr
    return root / "bin"


@pytest.fixture(scope="module")
def installed(plain: Path | None, source: Path, tmp_path_factory) -> Path:
    """The bin folder of `plain`, or, without an index, of an environment with the wheel and the packages used here."""
    if plain is not None:
        return plain
    root = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    install = [sys.executable, "-m", "pip", "--python", root / "bin" / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-index", *(source / "dist").glob("*.whl")], check=True)
    # Python does not read .pth files in a folder that a .pth file adds, so the editable installation has no effect.
    (packages,) = root.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return root / "bin"


@pytest.fixture
def start(source: Path, installed: Path, tmp_path: Path):
    """A function that runs one of the environment's programs in a folder that contains only the archive."""
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(source / "dist" / ARCHIVE, folder)

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / program, *arguments],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    run.folder = folder
    return run


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(source: Path) -> None:
    """The wheel contains all modules, their templates and the commit, and nothing else."""
    package = source / "src" / "resnet50_pipeline"
    expected = {path.relative_to(source / "src").as_posix() for path in package.rglob("*") if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    with zipfile.ZipFile(next((source / "dist").glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        commit = wheel.read("resnet50_pipeline/COMMIT").decode()
    assert held == expected | {"resnet50_pipeline/COMMIT"}
    assert commit == git(source, "rev-parse", "HEAD") + "\n"


@pytest.mark.slow
def test_building_leaves_nothing_in_the_project(source: Path) -> None:
    """Building changes nothing in the project folder except dist/, which git ignores."""
    assert git(source, "status", "--porcelain") == ""
    assert not (source / "build").exists()
    assert not list(source.rglob("*.egg-info"))


@pytest.mark.slow
def test_the_archive_holds_the_configuration_without_local(source: Path) -> None:
    """The archive contains all files of conf/ and an empty conf/local, which Kedro requires."""
    with tarfile.open(source / "dist" / ARCHIVE) as archive:
        held = {member.name for member in archive if member.isfile()}
        local = [member for member in archive if "local" in member.name]
    conf = source / "conf"
    files = {path.relative_to(source).as_posix() for path in conf.rglob("*") if path.is_file()}
    assert held == {name for name in files if not name.startswith("conf/local/")}
    assert [(member.name, member.isdir()) for member in local] == [("conf/local", True)]


def test_the_same_configuration_is_the_same_archive(tmp_path: Path) -> None:
    """The bytes of the archive do not depend on the time, the owner or the folder."""
    for name in ("one", "two"):
        shutil.copytree(PROJECT / "conf", tmp_path / name / "conf")
    os.utime(tmp_path / "one" / "conf" / "logging.yml", (0, 0))
    for name in ("one", "two"):
        write_configuration_archive(tmp_path / name / "conf", tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


@pytest.mark.parametrize("recipe", RECIPES)
def test_archive_and_folder_give_the_same_configuration(tmp_path: Path, recipe: str) -> None:
    """The parameters for each recipe and the logging configuration are the same from the archive as from conf/."""
    archive = tmp_path / ARCHIVE
    write_configuration_archive(PROJECT / "conf", archive)
    options: dict[str, Any] = {
        "env": "imagenet",
        "base_env": "base",
        "default_run_env": "local",
        "runtime_params": {"recipe": recipe},
        "merge_strategy": {"parameters": "soft"},
    }
    packed, loose = RecipeConfigLoader(archive, **options), RecipeConfigLoader(PROJECT / "conf", **options)
    assert packed["parameters"] == loose["parameters"]
    assert packed.read_logging() == loose.read_logging() is not None


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--env", "test"], "conf"),
        (["--conf-source", "cut.tar.gz"], "cut.tar.gz"),
        (["--conf-source", ARCHIVE, "--pipelines", "trainig"], "training"),
        (["preflight", "--conf-source", ARCHIVE, "--env", "imagenet", "--params", "recipe=fsat-40"], "fast-40"),
        (["package"], "pyproject.toml"),
    ],
)
def test_errors_are_one_message(start, arguments: list[str], name: str) -> None:
    """For every command, an error that a user can fix is one message without a traceback, with exit code 1."""
    (start.folder / "cut.tar.gz").write_bytes((start.folder / ARCHIVE).read_bytes()[:3000])
    done = start("resnet50-pipeline", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_plain_installation_is_consistent(plain: Path | None) -> None:
    """After pip has installed the wheel with the extra `cpu`, `pip check` complains only about PaddleClas' pins."""
    if plain is None:
        pytest.skip("pip cannot download paddleclas")
    done = subprocess.run([plain / "pip", "check"], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if not line.startswith("paddleclas 2.6.0 ")] == []


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_chain_runs_from_the_wheel_in_an_empty_folder(start, source: Path, installed: Path) -> None:
    """All pipelines run from the wheel without the source, and MLflow records the commit of the wheel."""
    shown = start("python", "-c", "import resnet50_pipeline as package; print(package.__file__)").stdout
    assert Path(shown.strip()).is_relative_to(installed.parent)
    done = start("python", "-m", "resnet50_pipeline", "--conf-source", ARCHIVE, "--env", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "result    top-1" in done.stdout
    assert "make ui" not in done.stdout
    assert "WARNING" not in done.stderr
    assert str(PROJECT / "src") not in done.stderr
    data = start.folder / "data" / "test"
    assert json.loads((data / "08_reporting" / "metrics.json").read_text())["images"] == 30
    client = MlflowClient(tracking_uri=f"sqlite:///{data / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("resnet50-test").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["git_commit"] == git(source, "rev-parse", "HEAD")
    assert run.data.tags["git_dirty"] == "false"
    assert {path.name for path in start.folder.iterdir()} == {ARCHIVE, "data", ".cache"}
    report = (data / "08_reporting" / "evaluation_report.html").read_text()
    assert "python -m resnet50_pipeline --conf-source" in report
