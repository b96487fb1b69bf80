"""The lock files pin every package that pyproject.toml requires by hash, agree with each other and name no index."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
LOCKS = {"requirements.lock": "cpu", "requirements-gpu.lock": "gpu", "requirements-paddle26.lock": "paddle26"}
DEVELOPER_LOCK = "requirements-dev.lock"
# The extras in pyproject.toml that the user lock files include.
USER_EXTRAS = ("remotes", "setup", "sweep", "viz")
CUDA_PACKAGES = (
    *("nvidia-cublas-cu11", "nvidia-cuda-nvrtc-cu11", "nvidia-cudnn-cu11", "nvidia-cufft-cu11"),
    *("nvidia-curand-cu11", "nvidia-cusolver-cu11", "nvidia-cusparse-cu11", "nvidia-nccl-cu11"),
)


def read_lock(name: str) -> dict[str, tuple[Version, list[str]]]:
    """Return {package: (version, its lines after the first)} and assert that every line belongs to a package."""
    packages: dict[str, tuple[Version, list[str]]] = {}
    lines: list[str] = []
    for line in (PROJECT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        if line.startswith(" "):
            lines.append(line)
            continue
        package, _, version = line.removesuffix(" \\").partition("==")
        lines = []
        assert package not in packages, line
        packages[package] = (Version(version), lines)
    return packages


@pytest.mark.parametrize("name", [*LOCKS, DEVELOPER_LOCK])
def test_every_package_is_pinned_by_hash(name: str) -> None:
    """A lock file contains only `package==version` and SHA-256 hashes."""
    packages = read_lock(name)
    assert len(packages) > 50
    for package, (_, lines) in packages.items():
        assert lines, f"{package} has no hash"
        for line in lines:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), f"{package}: {line}"


@pytest.mark.parametrize("name", [*LOCKS, DEVELOPER_LOCK])
def test_no_index_is_named(name: str) -> None:
    """A lock file names no address, index or wheel folder, so pip uses the machine's settings."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(--(extra-)?index-url|--find-links|-[if])\b", text, re.MULTILINE)


def read_requirements(*extras: str) -> list[Requirement]:
    """Return the requirements of the project, of its group `paddleclas` and of extras, without the project itself."""
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    optional = project["optional-dependencies"]
    own = [Requirement(text) for extra in extras for text in optional[extra] if text.startswith(project["name"])]
    nested = [extra for requirement in own for extra in sorted(requirement.extras)]
    texts = [
        *project["dependencies"],
        *groups["paddleclas"],
        *(text for extra in (*extras, *nested) for text in optional[extra]),
    ]
    return [Requirement(text) for text in texts if not text.startswith(project["name"])]


def require(requirements: list[Requirement], packages: dict[str, tuple[Version, list[str]]], name: str) -> None:
    """Raise AssertionError if a required package is not in a lock file, or has the wrong version there."""
    for requirement in requirements:
        package = canonicalize_name(requirement.name)
        assert package in packages, f"{requirement} is not in {name}; run make lock"
        version, _ = packages[package]
        assert requirement.specifier.contains(version), f"{name} has {package} {version}, not {requirement}"


@pytest.mark.parametrize(("name", "device"), LOCKS.items())
def test_a_user_lock_satisfies_pyproject(name: str, device: str) -> None:
    """A user lock file contains the dependencies of the project, of the device and of the extras that users need."""
    require(read_requirements(device, *USER_EXTRAS), read_lock(name), name)


@pytest.mark.parametrize(("name", "device"), LOCKS.items())
def test_the_developer_lock_completes_a_user_lock(name: str, device: str) -> None:
    """Together, the two lock files contain all packages that tests and tools need."""
    require(read_requirements(device, *USER_EXTRAS, "dev"), read_lock(name) | read_lock(DEVELOPER_LOCK), name)


@pytest.mark.parametrize("name", LOCKS)
def test_the_developer_lock_repeats_no_package(name: str) -> None:
    """No package is in two lock files that are installed together, so their versions cannot differ."""
    assert set(read_lock(name)) & set(read_lock(DEVELOPER_LOCK)) == set()


def test_the_user_lock_has_no_tools_of_developers() -> None:
    """A user does not install any of the programs that test, lint or document the project."""
    tools = {"pytest", "mypy", "ruff", "mkdocs", "moto", "hypothesis", "pre-commit", "import-linter", "ipykernel"}
    assert tools <= set(read_lock(DEVELOPER_LOCK))


@pytest.mark.parametrize(("name", "paddle"), [("gpu", "paddlepaddle-gpu"), ("paddle26", "paddlepaddle")])
def test_the_locks_differ_in_paddle_and_what_it_needs(name: str, paddle: str) -> None:
    """The lock files differ only in Paddle, the packages that Paddle needs, the GPU metrics, NumPy and OpenCV."""
    cpu, other = read_lock("requirements.lock"), read_lock(f"requirements-{name}.lock")
    assert set(cpu) - set(other) == {"paddlepaddle"} - {paddle}
    assert (
        set(other) - set(cpu)
        == {
            "gpu": {paddle, "astor", "nvidia-ml-py", *CUDA_PACKAGES},
            "paddle26": {"astor"},
        }[name]
    )
    assert other[paddle][0] == Version("2.6.2")
    different = {package for package in set(cpu) & set(other) if cpu[package] != other[package]}
    assert different - {"paddlepaddle"} == {"numpy", "opencv-python-headless"}
    assert (other["numpy"][0].major, cpu["numpy"][0].major) == (1, 2)


@pytest.mark.parametrize(
    ("name", "pythons"),
    [("requirements.lock", "3.11 3.12 3.13"), (DEVELOPER_LOCK, "3.11 3.12 3.13")]
    + [(f"requirements-{name}.lock", "3.11 3.12") for name in ("gpu", "paddle26")],
)
def test_a_lock_names_its_python_versions(name: str, pythons: str) -> None:
    """The first line contains the Python versions that the setup accepts."""
    assert (PROJECT / name).read_text(encoding="utf-8").splitlines()[0] == f"# For Python {pythons}."


def test_pip_check_reports_what_the_documentation_lists() -> None:
    """`pip check` reports exactly the requirements of paddleclas that the table in docs/development.md lists."""
    (version,) = {str(read_lock(name)["paddleclas"][0]) for name in LOCKS}
    page = (PROJECT / "docs" / "development.md").read_text(encoding="utf-8")
    section = page.partition("## Replaced requirements")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([^`]+)` \| .* \|$", section, re.MULTILINE))
    declared = {Requirement(text) for text in importlib.metadata.requires("paddleclas") or ()}
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    reported = re.findall(
        rf"^paddleclas {version} (?:requires|has requirement) ([^, ]+), .*$", done.stdout, re.MULTILINE
    )
    assert len(reported) == len(done.stdout.splitlines()), done.stdout
    assert {Requirement(text).name for text in reported} == {Requirement(text).name for text in listed}
    assert {Requirement(text) for text in listed} <= declared


def test_the_lock_is_complete_with_the_replaced_requirements() -> None:
    """uv, which uses the metadata in pyproject.toml, reports no missing or wrong package."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "check", "--python", sys.executable]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_older_paddle_matches_the_gpu_lock() -> None:
    """The CPU tests with the older Paddle use the version in the GPU lock file."""
    gpu, paddle26 = read_lock("requirements-gpu.lock"), read_lock("requirements-paddle26.lock")
    assert gpu["paddlepaddle-gpu"][0] == paddle26["paddlepaddle"][0]
