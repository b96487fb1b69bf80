"""What came of each expectation, and `findings.txt`, the list of all problems.

blocking: train_list.txt:17: train/n01440764/n01440764_9.JPEG: is missing → put … [images_exist]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from resnet50_pipeline.files import write_text

FINDINGS_FILE = "findings.txt"
_BLOCKING = "blocking: "
_WARNING = "warning: "


@dataclass(frozen=True)
class Finding:
    """What came of one expectation.

    Attributes:
        name: of the expectation.
        description: the claim.
        is_blocking: whether the run stops when it does not hold.
        success: whether it holds.
        observed: what was seen, in a few words: `3 of 2100 images`.
        problems: one line for each, what is wrong and what to do; empty where it holds.
    """

    name: str
    description: str
    is_blocking: bool
    success: bool
    observed: str
    problems: tuple[str, ...] = ()


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


def read_blocking_problems(path: Path) -> list[str]:
    """Return the problems of the blocking findings from a file that `write_findings` wrote."""
    # Not splitlines: a name of a file may hold what Unicode takes for the end of a line.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.removeprefix(_BLOCKING) for line in lines if line.startswith(_BLOCKING)]


def _interleave(findings: Iterable[Finding]) -> list[str]:
    """Return one problem of each finding in turn, so that the first few show every kind there is."""
    rounds = zip_longest(*([f"{problem} [{finding.name}]" for problem in finding.problems] for finding in findings))
    return [line for in_round in rounds for line in in_round if line is not None]
