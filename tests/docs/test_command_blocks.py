"""Every command of README.md and docs/ is run by a test, or says why it is not; what is run is what is written."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest
from command_blocks import PROJECT, REASONS, Block, find_blocks, find_pages
from documented_project import DocumentedProject

PAGES = find_pages()
BLOCKS = [block for page in PAGES for block in find_blocks(page)]
COMMANDS = [block for block in BLOCKS if block.language == "sh"]
# In this order, for the later ones use what the earlier ones leave.
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
def test_every_command_block_has_one_word_for_it(block: Block) -> None:
    """It is run, run by a test that exists, or needs what no test has, and then says so to readers."""
    assert block.kind, f"{block} needs a mark, as tests/docs/command_blocks.py explains"
    if block.kind == "not run":
        assert block.value in REASONS
        assert block.says_what_it_needs((PROJECT / block.page).read_text(encoding="utf-8")), block
    for name in block.tests:
        path, _, test = name.partition("::")
        assert test in _tests_of(PROJECT / path), f"{block}: there is no {name}"
    if block.kind in ("run", "serve", "ask"):
        assert block.page in ORDER, f"{block}: {block.page} must stand in ORDER"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_has_a_language(block: Block) -> None:
    """What is a command is told from what is its output, or a file."""
    assert block.language in {"sh", "python", "yaml", "json", "text"}, block


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_blocks_compile(block: Block) -> None:
    """A block of Python that is not run is at least Python."""
    compile(block.text, str(block), "exec")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ORDER)
def test_pages_do_what_they_say(page: str, documented: DocumentedProject, reached: list[str]) -> None:
    """Every block that is marked so runs in its turn, ends with 0, and shows neither a warning nor a trace."""
    for earlier in ORDER[: ORDER.index(page) + 1]:
        if earlier not in reached:
            reached.append(earlier)
            _run_page(earlier, documented)


@pytest.fixture(scope="module")
def reached() -> list[str]:
    """The pages whose blocks were run."""
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
        else:
            continue
        for word in ("Traceback", "Warning", "WARNING"):
            assert word not in said, f"{block} shows a {word}:\n{said}"


@functools.cache
def _tests_of(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
