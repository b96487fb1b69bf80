"""The lock files pin everything that pyproject.toml asks for, by hash, and name no index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
LOCKS = {"requirements.lock": "cpu", "requirements-gpu.lock": "gpu", "requirements-paddle26.lock": "paddle26"}


def read_lock(name: str) -> dict[str, tuple[Version, list[str]]]:
    """Return {package: (version, its lines after the first)}; every line of the file is accounted for."""
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


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_by_hash(name: str) -> None:
    """Nothing but `package==version` and SHA-256 hashes stands in a lock file."""
    packages = read_lock(name)
    assert len(packages) > 100
    for package, (_, lines) in packages.items():
        assert lines, f"{package} has no hash"
        for line in lines:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), f"{package}: {line}"


@pytest.mark.parametrize("name", LOCKS)
def test_no_index_is_named(name: str) -> None:
    """Where packages come from is the machine's own setting: no address, index or folder of wheels is named."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(--(extra-)?index-url|--find-links|-[if])\b", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "device"), LOCKS.items())
def test_the_lock_satisfies_pyproject(name: str, device: str) -> None:
    """Whatever pyproject.toml asks for is in the lock, in a version it allows: else `make lock` was forgotten."""
    packages = read_lock(name)
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    own = [Requirement(text) for text in extras["dev"] if Requirement(text).name == project["name"]]
    wanted = [*project["dependencies"], *(text for one in ("viz", "dev", device) for text in extras[one])]
    wanted += [text for requirement in own for extra in sorted(requirement.extras) for text in extras[extra]]
    for text in wanted:
        requirement = Requirement(text)
        if requirement.name == project["name"]:
            continue
        package = canonicalize_name(requirement.name)
        assert package in packages, f"{text} is not in {name}; run make lock"
        version, _ = packages[package]
        assert requirement.specifier.contains(version), f"{name} has {package} {version}, not {text}; run make lock"


@pytest.mark.parametrize(("name", "paddle"), [("gpu", "paddlepaddle-gpu"), ("paddle26", "paddlepaddle")])
def test_the_locks_differ_in_paddle_only(name: str, paddle: str) -> None:
    """A lock with another Paddle has that, astor, which it needs, and for GPUs their meters; all else is alike."""
    cpu, other = read_lock("requirements.lock"), read_lock(f"requirements-{name}.lock")
    assert set(cpu) - set(other) == {"paddlepaddle"} - {paddle}
    assert (
        set(other) - set(cpu)
        == {
            "gpu": {paddle, "astor", "nvidia-ml-py"},
            "paddle26": {"astor"},
        }[name]
    )
    assert other[paddle][0] == Version("2.6.2")
    for package in set(cpu) & set(other) - {"paddlepaddle"}:
        assert cpu[package] == other[package], package


def test_the_older_paddle_is_that_of_the_gpu_lock() -> None:
    """What is tested without GPUs is the version that is installed with them."""
    gpu, paddle26 = read_lock("requirements-gpu.lock"), read_lock("requirements-paddle26.lock")
    assert gpu["paddlepaddle-gpu"][0] == paddle26["paddlepaddle"][0]
