"""The code blocks of README.md and docs/, each with the word of what becomes of it when the pages are tested.

A comment, which no rendering shows, stands before each block of shell:

    <!-- run -->                    it is run, after the blocks of the same kind before it, in one clone of the project
    <!-- serve: /path -->           it starts a server, whose /path must answer; then the server is stopped
    <!-- ask -->                    it is run while the server of the block before it is up; 5000 becomes its port
    <!-- run by: tests/….py::test -->  that test runs what it says, in a place of its own
    <!-- not run: gpus -->          it needs what a test has not: gpus, docker, cluster, other machine

Python blocks may have the same; one without is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

PROJECT = Path(__file__).parents[2]
REASONS = frozenset({"gpus", "docker", "cluster", "other machine"})
# What needs something says so to readers too, near the block.
_SAID = {
    "gpus": "*Needs",
    "docker": "*Needs Docker",
    "other machine": "machine|*Needs",
    "cluster": "Kubernetes|SLURM|Airflow",
}
_MARK = re.compile(r"<!-- (?P<kind>run by|run|serve|ask|not run)(?:: (?P<value>.+?))? -->\s*$")
_DEMO = re.compile(r"<!-- (?P<end>/?)data-demo -->")
_DEMO_TEST = "tests/dvc/test_data_demo.py::test_the_walk_through_does_what_it_says"


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and what becomes of it (`kind`, empty without a mark)."""

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
        """The tests that run what it says."""
        return self.value.split(", ") if self.kind == "run by" else []

    def says_what_it_needs(self, page_text: str) -> bool:
        """Whether a reader is told within some lines of a block that is not run what it needs."""
        near = "\n".join(page_text.splitlines()[max(0, self.line - 12) : self.line + len(self.text.splitlines()) + 8])
        return any(word in near or word in page_text.splitlines()[0] for word in _SAID[self.value].split("|"))


def find_pages() -> list[Path]:
    """Return README.md and every page of docs/."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def find_blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page in their order; an indented one has the language `indented`."""
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
