"""What came of each expectation; and all problems, in `findings.txt` for people, in `findings.jsonl` for programs.

blocking: train_list.txt:17: train/n01440764/n01440764_9.JPEG: is missing → put … [images_exist]
{"expectation": "images_exist", "is_blocking": true, "file": "train_list.txt", "line": 17, "path": "train/…", …}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from resnet50_pipeline.files import write_text

FINDINGS_FILE = "findings.txt"
FINDINGS_JSON_FILE = "findings.jsonl"
_BLOCKING = "blocking: "
_WARNING = "warning: "


class Problem(NamedTuple):
    """One thing that is wrong, and what to do.

    Attributes:
        file: name of the list file that says so; empty where no list names the image.
        line: of that file, 1-based; 0 where it is not about one line.
        path: of the image, relative to the dataset root; empty where it is not about one image.
        text: what is wrong.
        fix: what to do.
    """

    file: str
    line: int
    path: str
    text: str
    fix: str

    @property
    def place(self) -> str:
        """`train_list.txt:17: train/….JPEG`, as much of it as there is."""
        position = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (position, self.path) if part)

    def __str__(self) -> str:
        return f"{self.place}: {self.text} → {self.fix}"


@dataclass(frozen=True)
class Finding:
    """What came of one expectation.

    Attributes:
        name: of the expectation.
        description: the claim.
        is_blocking: whether the run stops when it does not hold.
        success: whether it holds.
        observed: what was seen, in a few words: `3 of 2100 images`.
        problems: empty where it holds.
        is_checked: whether the scan read enough of any image to tell; where it did not, `success` says nothing.
        unread_images: of which the scan did not read what the claim is about; `success` is about the others.
    """

    name: str
    description: str
    is_blocking: bool
    success: bool
    observed: str
    problems: tuple[Problem, ...] = ()
    is_checked: bool = True
    unread_images: int = 0


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write every problem of every finding to a text file, the blocking ones first."""
    blocking = [_BLOCKING + line for line in _interleave(finding for finding in findings if finding.is_blocking)]
    warnings = [
        f"{_WARNING}{problem} [{finding.name}]"
        for finding in findings
        if not finding.is_blocking
        for problem in finding.problems
    ]
    write_text(path, "".join(line + "\n" for line in blocking + warnings))


def write_findings_json(path: Path, findings: Sequence[Finding]) -> None:
    """Write every problem of every finding to a file of JSON lines, in the order of the expectations."""
    lines = [
        json.dumps({"expectation": finding.name, "is_blocking": finding.is_blocking, **problem._asdict()})
        for finding in findings
        for problem in finding.problems
    ]
    write_text(path, "".join(line + "\n" for line in lines))


def read_blocking_problems(path: Path) -> list[str]:
    """Return the problems of the blocking findings from a file that `write_findings` wrote."""
    # Not splitlines: a name of a file may hold what Unicode takes for the end of a line.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.removeprefix(_BLOCKING) for line in lines if line.startswith(_BLOCKING)]


def _interleave(findings: Iterable[Finding]) -> list[str]:
    """Return one problem of each finding in turn, so that the first few show every kind there is."""
    rounds = zip_longest(*([f"{problem} [{finding.name}]" for problem in finding.problems] for finding in findings))
    return [line for in_round in rounds for line in in_round if line is not None]
