"""The outputs shown in README.md and docs/ are current."""

from __future__ import annotations

import re
import sys

import pytest
import yaml
from command_blocks import PROJECT
from documented_project import DocumentedProject

sys.path.insert(0, str(PROJECT / "tools"))
from docs_outputs import find_excerpts, find_outputs, find_pages, run
from sample_run import run_in

from resnet50_pipeline.commands.folds import render_table
from resnet50_pipeline.folds.results import FoldResult

OUTPUTS = [
    pytest.param(command, shown, id=command)
    for page in find_pages()
    for command, shown in find_outputs(page.read_text(encoding="utf-8"))
]
EXCERPTS = [
    pytest.param(name, shown, id=f"{page.name}-{name}")
    for page in find_pages()
    for name, shown in find_excerpts(page.read_text(encoding="utf-8"))
]


def test_outputs_are_found() -> None:
    """The pages contain outputs that `make docs-outputs` updates."""
    assert len(OUTPUTS) >= 3
    assert len(EXCERPTS) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), OUTPUTS)
def test_the_shown_output_is_current(command: str, shown: str) -> None:
    """Running the command again gives the same words. Numbers, paths and widths depend on the machine."""
    assert _words(run(command)) == _words(shown), "run `make docs-outputs`"


@pytest.fixture(scope="module")
def excerpts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The excerpts of a short run in a terminal, which registers the first version of the model."""
    project = DocumentedProject(tmp_path_factory.mktemp("excerpts") / "project")
    return run_in(project.root, project.environment(), "--params", "logs.progress_interval_seconds=0.5")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "shown"), EXCERPTS)
def test_the_shown_excerpt_of_a_run_is_current(name: str, shown: str, excerpts: dict[str, str]) -> None:
    """A run prints the same words in the same lines. Numbers and paths depend on the run."""
    assert _lines(excerpts[name]) == _lines(shown), "run `make docs-outputs`"


def test_the_shown_table_of_folds_is_what_the_command_prints_for_these_results() -> None:
    """The table in own-data-set.md has the columns, formats, means and standard deviations of `kedro folds`."""
    page = (PROJECT / "docs" / "own-data-set.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n(fold .*?)```", page, re.DOTALL)
    assert shown
    rows = re.findall(r"^(\d) +(\d+) +([\d.]+)% +([\d.]+)% +([\d.]+) +(\d+) min (\d+) s$", shown[1], re.MULTILINE)
    results = [
        FoldResult(
            fold=int(fold), images=int(images), top1=float(top1) / 100, balanced_accuracy=float(balanced) / 100,
            loss=float(loss), seconds=60 * int(minutes) + int(seconds),
        )
        for fold, images, top1, balanced, loss, minutes, seconds in rows
    ]  # fmt: skip
    assert render_table(results) == shown[1].splitlines()


def test_the_numbers_of_blocking_expectations_are_current() -> None:
    """docs/parameters.md shows how many expectations are blocking in conf/base and conf/imagenet."""
    base, imagenet = (
        len(yaml.safe_load((PROJECT / file).read_text(encoding="utf-8"))["data_validation"]["blocking"])
        for file in ("conf/base/parameters_data_validation.yml", "conf/imagenet/parameters_data_validation.yml")
    )
    page = (PROJECT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert f"| `data_validation.blocking` | {base} expectations | {imagenet} |" in page


def test_every_extra_in_the_documentation_exists() -> None:
    """Every extra that the pages name is defined in pyproject.toml."""
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    section = pyproject.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([a-z0-9-]+) = ", section, re.MULTILINE))
    pages = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`([a-z0-9-]+)`\s+extra", page.read_text(encoding="utf-8"))}
    assert named <= extras


def _words(text: str) -> set[str]:
    """Return the words in a text, and the names of the rows in a table of checks, whose cells depend on the machine."""
    words: set[str] = set()
    for line in text.splitlines():
        if row := re.match(r"[✓!✗] (.+?)(?:  |$)", line):
            words.add(row[1])
        elif not line.startswith("        "):
            words |= {word for word in re.findall(r"[^\s,;:()]+", line) if not re.search(r"[0-9/]", word)}
    return words


def _lines(text: str) -> list[list[str]]:
    """Return the words in each line, without words that contain numbers, paths or progress bars."""
    return [
        [word for word in re.findall(r"[^\s,;:()]+", line) if not re.search("[0-9/━]", word)]
        for line in text.splitlines()
    ]
