"""No DVC command deletes results of `kedro run` or an unfinished training run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvc_clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MINE = b"not stored by DVC"
CHAINS = {"dvc.yaml": ("data/dvc", ("data/sample", "data/test")), "conf/imagenet/dvc.yaml": ("", ("data/imagenet",))}
UNFINISHED = [
    f"{folder}/06_models/training/{name}"
    for folder in ("data/sample", "data/imagenet", "data/dvc/unpublished")
    for name in ("events.jsonl", "checkpoints/epoch-0001/model.safetensors")
]


@pytest.fixture
def clone(published: Clone, tmp_path: Path) -> Clone:
    """A clone with all results of dvc.yaml."""
    clone = published.clone_to(tmp_path / "clone")
    clone.run("dvc", "pull", "--quiet", "dvc.yaml")
    return clone


def outputs_of(clone: Clone, file: str) -> Iterator[str]:
    """Yield every path that the stages of a dvc.yaml write."""
    for stage in clone.read_yaml(file)["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                yield entry if isinstance(entry, str) else next(iter(entry))


def plant_results(clone: Clone) -> dict[Path, bytes]:
    """Write a file at the path of every result in every environment, and another file next to each."""
    paths = set(map(Path, UNFINISHED))
    for file, (folder, workspaces) in CHAINS.items():
        for out in outputs_of(clone, file):
            for workspace in workspaces:
                result = Path(out.replace(folder, workspace, 1) if folder else out)
                paths |= {result if result.suffix else result / "mine.txt", result.with_name("mine.txt")}
            if Path(out).suffix:
                paths.add(Path(out).with_name("mine.txt"))
    for path in paths:
        (clone.root / path).parent.mkdir(parents=True, exist_ok=True)
        (clone.root / path).write_bytes(MINE)
    return dict.fromkeys(paths, MINE)


def lost(clone: Clone, planted: dict[Path, bytes]) -> list[Path]:
    """Return the files that are missing or changed."""
    return [
        path
        for path, content in planted.items()
        if not (clone.root / path).is_file() or (clone.root / path).read_bytes() != content
    ]


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(["dvc checkout", "dvc checkout --force", "dvc gc --workspace --force"], id="checkout"),
        pytest.param(["dvc exp run --name plain", "dvc exp apply plain", "dvc exp remove plain"], id="exp-run"),
        pytest.param(["dvc exp run --temp --name copy", "dvc exp apply copy"], id="exp-run-temp"),
        pytest.param(
            ["dvc exp run --queue --name queued", "dvc exp run --run-all", "dvc exp apply queued"], id="exp-run-queue"
        ),
        pytest.param(["dvc repro", "dvc repro --force --single-item sample_data", "dvc repro"], id="repro"),
        pytest.param(["dvc repro --force --single-item data_validation"], id="repro-force"),
    ],
)
def test_results_that_dvc_has_not_stored_survive(clone: Clone, commands: list[str]) -> None:
    """No command changes the results of `kedro run` in any environment or an unfinished training run."""
    planted = plant_results(clone)
    assert len(planted) > 80
    for command in commands:
        clone.run(*command.split())
        assert lost(clone, planted) == [], command
    assert clone.run("dvc", "status", "dvc.yaml").strip() == "Data and pipelines are up to date."


def test_a_failed_stage_leaves_results_of_imagenet(clone: Clone) -> None:
    """An ImageNet stage that fails without images deletes no results."""
    planted = plant_results(clone)
    for command in (
        "dvc repro conf/imagenet/dvc.yaml",
        "dvc repro --force --single-item conf/imagenet/dvc.yaml:training",
        "dvc exp run conf/imagenet/dvc.yaml",
    ):
        code, _ = clone.fail(*command.split())
        assert code != 0, command
        assert lost(clone, planted) == [], command


def test_files_at_risk_are_named_with_the_command_that_saves_them(clone: Clone) -> None:
    """Untracked files in data/dvc are reported, and the suggested command saves them."""
    assert clone.fail("kedro", "data-doctor", "--unsaved")[0] == 0
    digits, metrics = "data/dvc/01_raw/digits/train/mine.JPEG", "data/dvc/08_reporting/metrics.json"
    (clone.root / digits).write_bytes(MINE)
    clone.run("dvc", "unprotect", metrics)
    (clone.root / metrics).write_bytes(b"{}")
    code, said = clone.fail("kedro", "data-doctor", "--unsaved")
    assert code == 1
    remedies = {
        path: line.split("→")[1].strip() for line in said.splitlines() for path in (digits, metrics) if path in line
    }
    assert remedies == {digits: "dvc commit --force sample_data", metrics: "dvc commit --force evaluation"}
    for remedy in remedies.values():
        clone.run(*remedy.split())
    clone.run("kedro", "data-doctor", "--unsaved")
    clone.run("dvc", "checkout", "--force", "dvc.yaml")
    assert lost(clone, {Path(digits): MINE, Path(metrics): b"{}"}) == []
