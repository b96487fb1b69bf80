"""What a check found: fine, a doubt, or a reason not to start."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from resnet50_pipeline.exceptions import PreflightError

logger = logging.getLogger(__name__)

Status = Literal["ok", "warning", "blocking"]

_KIB = 1024


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        check: what was looked at, in a word or two.
        status: whether it is as it should be, may hurt, or makes the run end badly for sure.
        found: what there is.
        needed: what there should be; with its formula where it was computed.
        remedy: what to do about it; empty where nothing has to be done, or `found` says it.
    """

    check: str
    status: Status
    found: str
    needed: str
    remedy: str = ""


def judge(is_fine: bool, otherwise: Status, check: str, *, found: str, needed: str, remedy: str) -> Finding:
    """Return an ok finding without a remedy, or one of status `otherwise` with it."""
    if is_fine:
        return Finding(check, "ok", found, needed)
    return Finding(check, otherwise, found, needed, remedy)


def blocking(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that make a run end badly."""
    return [finding for finding in findings if finding.status == "blocking"]


def require_no_blocking(findings: Iterable[Finding]) -> None:
    """Refuse what cannot end well.

    Raises:
        PreflightError: with every blocking finding.
    """
    problems = [
        f"{one.check}: {one.found}; needed: {one.needed}" + (f" → {one.remedy}" if one.remedy else "")
        for one in blocking(findings)
    ]
    if problems:
        raise PreflightError(problems)


def refuse_or_warn(findings: Iterable[Finding]) -> None:
    """Refuse what cannot end well, and log what may hurt.

    Raises:
        PreflightError: with every blocking finding.
    """
    found = list(findings)
    require_no_blocking(found)
    for one in found:
        if one.status == "warning":
            logger.warning("%s: %s; needed: %s → %s", one.check, one.found, one.needed, one.remedy)


def show_bytes(size: float) -> str:
    """Return a size as people read it: `64 MiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < _KIB:
            return f"{size:.0f} {unit}"
        size /= _KIB
    return f"{size:.1f} GiB" if size < _KIB else f"{size / _KIB:.1f} TiB"
