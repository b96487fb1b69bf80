"""Reads the code blocks in README.md and docs/, with the comments that state how each block is tested.

Each shell block is preceded by a comment, which is not rendered:

    <!-- run -->                    the tests run it after the previous blocks of this kind, in one clone
    <!-- serve: /path -->           it starts a server; the tests request /path and stop the server
    <!-- ask -->                    the tests run it on the server of the previous block, with its port
    <!-- run by: tests/….py::test -->  the named test runs these commands
    <!-- not run: gpus -->          it needs something that the tests do not have: gpus, docker, cluster, other machine

Python blocks may have the same comments; a Python block without a comment is only compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

PROJECT = Path(__file__).parents[2]
REASONS = frozenset({"gpus", "docker", "cluster", "other machine"})
# Words near a block that tell readers what the block needs.
_SAID = {
    "gpus": "*Needs",
    "docker": "*Needs Docker",
    "other machine": "machine|*Needs",
    "cluster": "Kubernetes|SLURM|Airflow",
}
_MARK = re.compile(r"<!-- (?P<kind>run by|run|serve|ask|not run)(?:: (?P<value>.+?))? -->\s*$")
_DEMO = re.compile(r"<!-- (?P<end>/?)data-demo -->")
_DEMO_TEST = "tests/dvc/test_data_demo.py::test_tutorial_does_what_it_says"


@dataclass(frozen=True)
class Block:
    """A fenced code block in a page.

    Attributes:
        page: path of the page, relative to the project.
        line: line of the block, from 1.
        language: language given on the fence.
        text: content of the block.
        kind: kind of the comment; empty if there is no comment.
        value: value of the comment, such as a path or a reason.
    """

    page: str
    line: int
    language: str
    text: str
    kind: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def tests(self) -> list[str]:
        """The tests that run the commands of this block."""
        return self.value.split(", ") if self.kind == "run by" else []

    def says_what_it_needs(self, page_text: str) -> bool:
        """Whether the text near a block that is not run states the requirement."""
        near = "\n".join(page_text.splitlines()[max(0, self.line - 12) : self.line + len(self.text.splitlines()) + 8])
        return any(word in near or word in page_text.splitlines()[0] for word in _SAID[self.value].split("|"))


def find_pages() -> list[Path]:
    """Return README.md and every page in docs/."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def find_blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks in a page in order. The language of an indented block is `indented`."""
    mark: tuple[str, str] = ("", "")
    in_demo = False
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            kind, value = ("run by", _DEMO_TEST) if in_demo else mark
            language = token.info.strip() if token.type == "fence" else "indented"
            line = (token.map or [0])[0] + 1
            yield Block(str(page.relative_to(PROJECT)), line, language, token.content, kind, value)
        if token.type == "html_block":
            demo, found = _DEMO.match(token.content), _MARK.match(token.content)
            in_demo = not demo["end"] if demo else in_demo
            mark = (found["kind"], found["value"] or "") if found else ("", "")
        elif token.type not in ("list_item_open", "ordered_list_open", "bullet_list_open"):
            mark = ("", "")
