"""Results are shared through a remote; DVC's own commands run experiments and compare metrics and plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dvc_clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REPORTING = "data/dvc/08_reporting"
LEARNING_RATE = "conf/base/parameters_training.yml:training.lr.learning_rate"


@pytest.fixture(scope="module")
def colleague(published: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A new clone of the published commit, before the first pull."""
    return published.clone_to(tmp_path_factory.mktemp("colleague") / "clone")


def test_repro_in_a_fresh_clone_fetches_the_results_and_trains_nothing(published: Clone, colleague: Clone) -> None:
    """`dvc repro --pull` runs no stage and downloads identical metrics."""
    files = [path for path in (colleague.root / "data" / "dvc").rglob("*") if path.is_file()]
    assert [path.name for path in files] == [".gitkeep"]  # of 01_raw/patches/, which is in Git
    assert colleague.repro("--pull") == []
    for name in ("metrics.json", "registered_model.json", "training_summary.json"):
        file = Path(REPORTING) / name
        assert (colleague.root / file).read_bytes() == (published.root / file).read_bytes()
    assert colleague.untracked() == set()
    assert colleague.run("dvc", "status", "dvc.yaml").strip() == "Data and pipelines are up to date."


def test_pulled_files_are_linked_to_the_cache(colleague: Clone) -> None:
    """Every file in the workspace shares its inode with the cache, so it takes up disk space only once."""
    files = [path for path in (colleague.root / "data" / "dvc").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 100
    assert [path for path in files if path.stat().st_nlink < 2] == []


def test_an_experiment_is_compared_by_metrics_and_plots(colleague: Clone) -> None:
    """`dvc exp run -S` trains with another rate. `metrics diff`, `exp show` and `plots diff` compare it with v1."""
    said = colleague.run("dvc", "exp", "run", "--name", "warmer", "--set-param", f"{LEARNING_RATE}=0.0123")
    assert "Running stage 'training'" in said
    assert "Running stage 'data_validation'" not in said
    used = colleague.root / "data/dvc/06_models/training/training_config.yaml"
    assert "learning_rate: 0.0123" in used.read_text()

    said = colleague.run("dvc", "metrics", "diff", "--json", "--all", "data-v1")
    difference = json.loads(said[said.index("{") :])  # after a note that the ImageNet stages have no metrics
    entry = difference[f"{REPORTING}/metrics.json"]
    now = colleague.read_yaml(f"{REPORTING}/metrics.json")
    assert entry["loss"]["new"] == pytest.approx(now["loss"])
    assert entry["loss"]["old"] != entry["loss"]["new"]

    table = colleague.run("dvc", "exp", "show", "--csv")
    (warmer,) = [line for line in table.splitlines() if "warmer" in line]
    assert "0.0123" in warmer

    page = colleague.root / "plots" / "index.html"
    colleague.run("dvc", "plots", "diff", "data-v1", "--out", "plots")
    html = page.read_text(encoding="utf-8")
    for title in ("Loss, training and validation", "Top-1, training and validation", "Reliability", "Confusion"):
        assert title in html
    for revision in ("data-v1", "workspace"):
        assert f'"rev": "{revision}"' in html


def test_a_resumed_training_run_does_not_change_the_cache(colleague: Clone) -> None:
    """A resumed training run copies linked files before it appends to them, so the cache does not change."""
    colleague.run("git", "reset", "--quiet", "--hard", "data-v1")
    colleague.run("dvc", "checkout", "--force", "dvc.yaml")
    events = colleague.root / "data/dvc/06_models/training/events.jsonl"
    assert events.stat().st_nlink > 1
    before = events.read_bytes()
    colleague.run("kedro", "run", "--env", "dvc", "--pipelines", "training", "--params", "training.resume=true")
    assert events.stat().st_nlink == 1
    assert events.read_bytes().startswith(before)
    assert len(events.read_bytes()) > len(before)
    colleague.run("kedro", "data-doctor")
