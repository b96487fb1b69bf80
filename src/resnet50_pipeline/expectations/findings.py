"""Defines the result of an expectation, and writes all problems to `findings.txt` and `findings.jsonl`.

blocking: train_list.txt:17: train/n01440764/n01440764_9.JPEG is missing → restore … [images_exist]
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
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands

FINDINGS_FILE = "findings.txt"
FINDINGS_JSON_FILE = "findings.jsonl"
PROBLEMS_SHOWN = 10
"""Number of problems per expectation in the report and in Data Docs."""
_BLOCKING = "blocking: "
_WARNING = "warning: "


class Problem(NamedTuple):
    """One problem in the dataset, with a suggested fix.

    Attributes:
        file: name of the list file, or "" if no list file contains the image.
        line: 1-based line number in that file, or 0 if the problem is not about a single line.
        path: image path relative to the dataset root, or "" if the problem is not about a single image.
        text: description of the problem. If there is a path, the text completes a sentence that begins with the path.
        fix: suggested next step.
        other_path: path of the image that the text compares the image with, or "".
    """

    file: str
    line: int
    path: str
    text: str
    fix: str
    other_path: str = ""

    @property
    def location(self) -> str:
        """File, line and path, as in `train_list.txt:17: train/….JPEG`. Empty parts are omitted."""
        position = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (position, self.path) if part)

    def __str__(self) -> str:
        separator = " " if self.path else ": " if self.file else ""
        return f"{self.location}{separator}{self.text} → {self.fix}"


@dataclass(frozen=True)
class Finding:
    """Result of one expectation.

    Attributes:
        name: name of the expectation.
        description: the claim, as a sentence.
        is_blocking: whether a failure stops the run.
        success: whether the expectation passed.
        observed: a short summary, such as `3 of 2,100 images fail`.
        problems: one entry per failure. Empty if the expectation passed.
        is_checked: whether the scan read enough of at least one image to check the claim. If False, `success` is
            meaningless.
        unread_images: number of images that could not be checked because the scan did not read enough of them.
        examples: paths of the first images that failed, if the expectation is about individual images.
        gallery: paths of images to show side by side, in addition to the images of the first problems.
    """

    name: str
    description: str
    is_blocking: bool
    success: bool
    observed: str
    problems: tuple[Problem, ...] = ()
    is_checked: bool = True
    unread_images: int = 0
    examples: tuple[str, ...] = ()
    gallery: tuple[str, ...] = ()

    @property
    def shown_paths(self) -> tuple[str, ...]:
        """Paths of the images to show for this finding: from the first problems, or `examples` if there are none."""
        shown = self.problems[:PROBLEMS_SHOWN]
        paths = (path for problem in shown for path in (problem.path, problem.other_path) if path)
        return tuple(dict.fromkeys([*paths, *self.gallery])) or self.examples


def write_findings(path: Path, findings: Sequence[Finding], review: ReviewCommands | None = None) -> None:
    """Write all problems to a text file, one per line, blocking problems first.

    If there are images to review, the first line contains the commands for that.
    """
    blocking = [_BLOCKING + line for line in _interleave(finding for finding in findings if finding.is_blocking)]
    warnings = [
        f"{_WARNING}{problem} [{finding.name}]"
        for finding in findings
        if not finding.is_blocking
        for problem in finding.problems
    ]
    steps = [] if review is None else [f"# review the images: {review.review}; apply the decisions: {review.fix}"]
    write_text(path, "".join(line + "\n" for line in steps + blocking + warnings))


def write_findings_json(path: Path, findings: Sequence[Finding]) -> None:
    """Write all problems to a JSON Lines file, in the order of the expectations."""
    lines = [
        json.dumps({"expectation": finding.name, "is_blocking": finding.is_blocking, **problem._asdict()})
        for finding in findings
        for problem in finding.problems
    ]
    write_text(path, "".join(line + "\n" for line in lines))


def read_blocking_problems(path: Path) -> list[str]:
    """Return the blocking problems from a file written by `write_findings`."""
    # Do not use splitlines, because file names may contain characters that Unicode treats as line breaks.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.removeprefix(_BLOCKING) for line in lines if line.startswith(_BLOCKING)]


def _interleave(findings: Iterable[Finding]) -> list[str]:
    """Return all problems, taking one from each finding in turn, so that the first lines show every kind of problem."""
    rounds = zip_longest(*([f"{problem} [{finding.name}]" for problem in finding.problems] for finding in findings))
    return [line for in_round in rounds for line in in_round if line is not None]
