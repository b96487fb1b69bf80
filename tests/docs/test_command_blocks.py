"""Every command in README.md and docs/ is run by a test, or the page states why it is not."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_blocks import PROJECT, REASONS, Block, find_blocks, find_pages
from documented_project import FLOWERS, OF_PADDLE, DocumentedProject

PAGES = find_pages()
BLOCKS = [block for page in PAGES for block in find_blocks(page)]
COMMANDS = [block for block in BLOCKS if block.language == "sh"]
# The order matters, because later pages use the results of earlier ones.
ORDER = (
    "docs/tutorial-sample.md",
    "README.md",
    "docs/evaluation.md",
    "docs/serving.md",
    "docs/tracking.md",
    "docs/tutorial-imagenet.md",
    "docs/preflight.md",
    "docs/shards.md",
    "docs/own-data-set.md",
)


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_every_command_block_has_a_mark(block: Block) -> None:
    """Every shell block is run, names an existing test, or tells readers what it needs."""
    assert block.kind, f"{block} needs a mark, as tests/docs/command_blocks.py explains"
    if block.kind == "not run":
        assert block.value in REASONS
        assert block.says_what_it_needs((PROJECT / block.page).read_text(encoding="utf-8")), block
    for name in block.tests:
        path, _, test = name.partition("::")
        assert test in _tests_of(PROJECT / path), f"{block}: there is no {name}"
    if block.kind in ("run", "serve", "ask"):
        assert block.page in ORDER, f"{block}: add {block.page} to ORDER"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_has_a_language(block: Block) -> None:
    """Every block has a language, which distinguishes commands from output and file contents."""
    assert block.language in {"sh", "python", "yaml", "json", "text"}, block


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_blocks_compile(block: Block) -> None:
    """Every Python block compiles."""
    compile(block.text, str(block), "exec")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", ORDER)
def test_pages_do_what_they_say(page: str, documented: DocumentedProject, reached: list[str]) -> None:
    """Every block marked `run` succeeds without warnings or tracebacks and writes nothing outside the project."""
    for earlier in ORDER[: ORDER.index(page) + 1]:
        if earlier not in reached:
            reached.append(earlier)
            _run_page(earlier, documented)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_notebook_runs_on_the_results_of_the_pipelines(documented: DocumentedProject) -> None:
    """`make notebook` executes every cell without errors or warnings and produces figures, tables and runs."""
    documented.run_chain_once()
    said = documented.run("make notebook")
    assert "Traceback" not in said
    assert "WARNING" not in said
    assert documented.written_to_home() <= OF_PADDLE
    executed = nbformat.read(documented.root / "data/sample/08_reporting/explore.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert [_as_text(output) for output in outputs if output["output_type"] in ("stream", "error")] == []
    shown = [output["data"] for output in outputs]
    assert sum("image/png" in data for data in shown) == 6
    tables = [data["text/html"] for data in shown if "text/html" in data]
    (runs,) = [table for table in tables if "runName" in table]
    assert "FINISHED" in runs
    (gallery,) = [table for table in tables if "<figcaption>" in table]
    assert gallery.count('src="data:image/') == gallery.count("<figcaption>") == 12


@pytest.fixture(scope="module")
def reached() -> list[str]:
    """The pages whose blocks have run."""
    return []


def _run_page(page: str, project: DocumentedProject) -> None:
    if page in ("docs/tutorial-imagenet.md", "docs/preflight.md"):
        project.make_imagenet()
    if page == "docs/own-data-set.md":
        project.make_flowers()
    blocks = list(find_blocks(PROJECT / page))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.kind == "serve":
            then = following.text if following is not None and following.kind == "ask" else ""
            said = project.serve(block.text, block.value, then)
        elif block.kind == "run":
            said = project.run_python(block.text) if block.language == "python" else project.run(block.text)
            if "kedro adopt flowers" in block.text:
                assert following is not None
                assert _titles(said) == _titles(following.text)
                # The default would be 500 steps.
                project.clone.edit_parameters("parameters.yml", {"training": {"epochs": 1}}, "flowers")
        else:
            continue
        for word in ("Traceback", "Warning", "WARNING"):
            assert word not in said, f"{block} shows a {word}:\n{said}"
        assert project.written_to_home() <= OF_PADDLE, block
    if page == "docs/own-data-set.md":
        # The folder has no split, and class and file names with spaces, quotes and non-ASCII characters.
        registered = project.clone.read_yaml("data/flowers/08_reporting/registered_model.json")
        assert (registered["name"], registered["version"]) == ("resnet50-flowers", 1)
        classes = project.clone.read_yaml("data/flowers/05_model_input/label_map.json")["classes"]
        assert [one["name"] for one in classes] == sorted(FLOWERS)


def _titles(table: str) -> list[str]:
    """Return the titles in the first column of the table that `kedro adopt` prints, without notes on the dataset."""
    titles = [title.rstrip() for title in re.findall(r"^  ([a-z].{8}) \S", table, re.MULTILINE)]
    return [title for title in titles if title != "note"]


@functools.cache
def _tests_of(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _as_text(output: Any) -> str:
    return str(output.get("text") or output.get("evalue"))
