"""Every command in the tutorial on versioned data runs and has the described effect."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dvc_clone import PROJECT, Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BLURRED = "data/dvc/01_raw/digits/train/n00000003"
METRICS = "data/dvc/08_reporting/metrics.json"


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """The shell blocks of the tutorial, as `make data-demo` reads them."""
    printed = subprocess.run(
        ["sh", "tools/data_demo.sh", "--print"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    text = (PROJECT / "docs/tutorial-versioned-data.md").read_text(encoding="utf-8")
    part = text.split("<!-- data-demo -->")[1].split("<!-- /data-demo -->")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    assert printed.stdout == "".join(blocks)
    return blocks


@pytest.mark.exhaustive
def test_tutorial_does_what_it_says(commands: list[str], published: Clone, tmp_path: Path) -> None:
    """The tutorial creates two versions, compares them and restores each one without training."""
    # The `published` fixture has already run the first block, so no stage runs here.
    clone = published.clone_to(tmp_path / "clone")
    clone.run("dvc", "pull", "--quiet", "dvc.yaml")
    clone.run("git", "tag", "--delete", "data-v1")
    first, change, second, compare, back, forward = commands
    said = clone.run("sh", "-eux", "-c", first.replace("git commit", "git commit --allow-empty"))
    assert "Running stage" not in said
    images = _contents(clone)
    metrics = clone.read_yaml(METRICS)

    said = clone.run("sh", "-eux", "-c", change)
    assert "modified:           data/dvc/01_raw/digits" in said
    blurred = _contents(clone)
    assert all(blurred[name] != images[name] for name in images)

    said = clone.run("sh", "-eux", "-c", second)
    stages = re.findall(r"^Running stage '(\w+)':", said, re.MULTILINE)
    assert (
        stages == ["data_validation", "data_preparation", "training", "evaluation", "model_registration"][: len(stages)]
    )
    assert {"data_validation", "training", "evaluation", "model_registration"} <= set(stages)
    now = clone.read_yaml(METRICS)
    assert now["loss"] != metrics["loss"]

    said = clone.run("sh", "-eux", "-c", compare)
    assert f"{BLURRED}/" in said
    shown = re.search(rf"{METRICS} +loss +(\S+) +(\S+)", said)
    assert shown is not None
    assert [float(value) for value in shown.groups()] == pytest.approx([metrics["loss"], now["loss"]], abs=1e-4)

    said = clone.run("sh", "-eux", "-c", back)
    assert "Data and pipelines are up to date." in said
    assert _contents(clone) == images
    assert clone.read_yaml(METRICS) == metrics
    assert clone.repro() == []

    clone.run("sh", "-eux", "-c", forward)
    assert _contents(clone) == blurred
    assert clone.read_yaml(METRICS) == now
    assert clone.untracked() == set()

    digest = json.loads((clone.root / "data/dvc/08_reporting/validation_report.json").read_text())["data_digest"]
    for stage in ("data_validation", "training", "evaluation", "model_registration"):
        assert clone.dataset_digests(stage) == {digest}


def test_make_runs_the_tutorial() -> None:
    """`make data-demo` starts the script that reads the tutorial."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    plan = subprocess.run(["make", "--dry-run", "data-demo"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "sh tools/data_demo.sh" in plan.stdout


def _contents(clone: Clone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (clone.root / BLURRED).glob("*.JPEG")}
