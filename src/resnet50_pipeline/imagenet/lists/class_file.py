r"""Reads and renders `classes.txt`: one class per line in label order, with an optional longer name after a tab.

rose
n01443537\tgoldfish, Carassius auratus
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.lists.problems import quote
from resnet50_pipeline.imagenet.lists.text_file import read_text_file


@dataclass(frozen=True)
class ListedClass:
    """One line of a class file.

    Attributes:
        key: short unique name, such as a folder or a synset.
        name: human-readable name after the tab; `key` if there is no tab.
    """

    key: str
    name: str


def read_class_file(path: Path) -> tuple[ListedClass, ...]:
    """Return the classes in a file. The first line is label 0.

    Raises:
        ListFileError: if the file is not UTF-8, or a line is blank or repeats a class.
    """
    lines = read_text_file(path).rstrip("\n").split("\n")
    first_line: dict[str, int] = {}
    classes, problems = [], []
    for number, line in enumerate(lines, start=1):
        key, _, name = line.partition("\t")
        if not key.strip():
            problems.append(f"{path}:{number}: blank line → delete the line; each line must name a class")
        elif first_line.setdefault(key, number) != number:
            problems.append(
                f"{path}:{number}: {quote(key)} is also on line {first_line[key]} → keep only one of the lines"
            )
        classes.append(ListedClass(key, name.strip() or key))
    if problems:
        raise ListFileError(problems)
    return tuple(classes)


def render_class_file(classes: Iterable[ListedClass]) -> str:
    """Return the text of a class file."""
    return "".join(one.key + (f"\t{one.name}" if one.name != one.key else "") + "\n" for one in classes)
