"""tools/audit.py reports vulnerabilities, or that the database cannot be reached."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "tools" / "audit.py"
VULNERABLE = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "A-1", "aliases": ["CVE-1"], "fix_versions": ["9.1"]}],
}
FINE = {"name": "six", "version": "1.17.0", "vulns": []}
SKIPPED = {"name": "six", "skip_reason": "six was not found"}


@pytest.fixture
def audit() -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("audit", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(*packages: dict[str, Any]) -> list[str]:
    """Return a command that prints what pip-audit prints for these packages."""
    return [sys.executable, "-c", f"print({json.dumps({'dependencies': packages})!r})"]


def test_vulnerabilities_are_listed(audit, tmp_path: Path) -> None:
    """A vulnerability is listed with the package, the vulnerability's names and the version that fixes it."""
    count, (line,) = audit.audit(tmp_path / "a.lock", answer(VULNERABLE, FINE))
    assert count == 2
    assert all(word in line for word in ("pillow 9.0.0", "A-1", "CVE-1", "9.1"))


@pytest.mark.parametrize(
    "command", [answer(FINE, SKIPPED), [sys.executable, "-c", "raise SystemExit('ConnectionError: osv')"]]
)
def test_an_unreachable_database_is_not_a_clean_result(audit, tmp_path: Path, command: list[str]) -> None:
    """If packages are not audited, or pip-audit cannot connect, there is an error instead of an empty list."""
    with pytest.raises(audit.AuditError, match=r"1 of 2|ConnectionError: osv"):
        audit.audit(tmp_path / "a.lock", command)


@pytest.mark.parametrize(
    ("command", "code"),
    [(answer(FINE), 0), (answer(VULNERABLE), 1), ([sys.executable, "-c", "raise SystemExit('no network')"], 2)],
)
def test_exit_codes(audit, monkeypatch, capsys, command: list[str], code: int) -> None:
    """The exit codes for no vulnerabilities, some vulnerabilities and an unreachable database are different."""
    check = audit.audit
    monkeypatch.setattr(audit, "audit", lambda lock: check(lock, command))
    assert audit.main(["a.lock"]) == code
    assert "a.lock" in capsys.readouterr().out
