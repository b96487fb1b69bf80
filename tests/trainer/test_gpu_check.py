"""`tools/gpu_check.sh` runs in full on a CPU, and reports what it measured, skipped and found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# The program starts ranks ten times, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(1200)

REPOSITORY = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--arch", "ResNet18", "--steps", "4", "--batch-size", "2", "--image-size", "32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], dict]:
    """The finished program, and its JSON file."""
    output = tmp_path_factory.mktemp("check") / "gpu_check.json"
    command = [sys.executable, "-W", "ignore", "tools/gpu_check.py", *SMALL, "--output", str(output)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads(output.read_text())


@pytest.mark.slow
def test_all_checks_pass_on_a_cpu(run):
    """All checks except DALI run. Each run has a speed, a memory peak and a ratio to the bare loop."""
    checks = {check["name"]: check for check in run[1]["checks"]}
    assert {name: check["status"] for name, check in checks.items()} == {
        **dict.fromkeys(("preflight", "bare loop", "float32", "AMP, NHWC", "normalize_on_device"), "ok"),
        **dict.fromkeys(("pinned copies", "two ranks", "exact resume"), "ok"),
        "DALI": "skipped",
    }
    for name in ("float32", "AMP, NHWC", "normalize_on_device", "two ranks"):
        assert checks[name]["images_per_second"] > 0
        assert checks[name]["share_of_bare_loop"] > 0
        assert checks[name]["peak_memory_bytes"] > 100 << 20
        assert "gradient norm" in checks[name]["detail"]
    assert checks["pinned copies"]["detail"].startswith("0 copies differ")
    assert run[1]["versions"]["paddle"]
    assert [finding["check"] for finding in run[1]["preflight"]][:1] == ["Python"]


@pytest.mark.slow
def test_table_shows_every_check(run):
    """The table has a row for each check, and the last line names the file to attach."""
    output = run[0].stdout
    assert all(check["name"] in output for check in run[1]["checks"])
    assert output.rstrip().splitlines()[-1].startswith("Attach ")


def test_starter_needs_no_arguments():
    """The shell file starts the program with the environment that `make setup` created."""
    text = (REPOSITORY / "tools" / "gpu_check.sh").read_text()
    assert 'exec .venv/bin/python -W ignore tools/gpu_check.py "$@"' in text
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tools/gpu_check.py", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--device" in done.stdout


def test_failed_check_does_not_end_the_others(tmp_path: Path, monkeypatch):
    """A check that fails is reported with its error, and the exit code is 1."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    import gpu_check

    def fail(*_arguments: object, **_named: object) -> None:
        raise ValueError("no\nluck")

    monkeypatch.setattr(gpu_check, "check_preflight", fail)
    for name in ("measure_bare_loop", "train", "check_resume"):
        monkeypatch.setattr(gpu_check.Runs, name, fail)
    assert gpu_check.main([*SMALL, "--output", str(tmp_path / "out.json")]) == 1
    checks = {check["name"]: check for check in json.loads((tmp_path / "out.json").read_text())["checks"]}
    assert (checks["float32"]["status"], checks["float32"]["detail"]) == ("failed", "ValueError: no luck")
    assert (checks["pinned copies"]["status"], checks["pinned copies"]["detail"]) == ("skipped", "the bare loop failed")
