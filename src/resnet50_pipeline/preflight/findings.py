"""Defines the result of a preflight check: OK, a warning, or an error that blocks the run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from resnet50_pipeline.exceptions import PreflightError

logger = logging.getLogger(__name__)

Status = Literal["ok", "warning", "blocking"]


@dataclass(frozen=True)
class Finding:
    """Result of one check, shown as one row of the table.

    Attributes:
        check: name of the check, in one or two words.
        status: `warning` if the run may be slow or incomplete, `blocking` if it would fail.
        found: the actual state.
        needed: the required state, with the formula if it is computed.
        remedy: the next step; "" if there is none, or if `found` includes it.
    """

    check: str
    status: Status
    found: str
    needed: str
    remedy: str = ""


def judge(is_ok: bool, otherwise: Status, check: str, *, found: str, needed: str, remedy: str) -> Finding:
    """Return an OK finding if `is_ok`; otherwise, one with the status `otherwise` and the remedy."""
    if is_ok:
        return Finding(check, "ok", found, needed)
    return Finding(check, otherwise, found, needed, remedy)


def blocking(findings: Iterable[Finding]) -> list[Finding]:
    """Select the blocking findings."""
    return [finding for finding in findings if finding.status == "blocking"]


def require_no_blocking(findings: Iterable[Finding]) -> None:
    """Raise an error if a finding is blocking.

    Raises:
        PreflightError: if at least one finding is blocking; the message lists all of them.
    """
    problems = [
        f"{one.check}: {one.found}; needed: {one.needed}" + (f" → {one.remedy}" if one.remedy else "")
        for one in blocking(findings)
    ]
    if problems:
        raise PreflightError(problems)


def report_findings(findings: Iterable[Finding]) -> None:
    """Raise an error if a finding is blocking; otherwise log the warnings.

    Raises:
        PreflightError: if at least one finding is blocking; the message lists all of them.
    """
    found = list(findings)
    require_no_blocking(found)
    for one in found:
        if one.status == "warning":
            logger.warning("%s: %s; needed: %s → %s", one.check, one.found, one.needed, one.remedy)
