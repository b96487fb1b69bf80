"""Prints the known vulnerabilities of the packages in lock files: `python tools/audit.py requirements.lock …`.

pip-audit queries the osv.dev database. The exit code is 0 if there are no known vulnerabilities, 1 if there are some,
and 2 if the database cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PIP_AUDIT = (
    *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv"),
    *("--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"),
)


class AuditError(Exception):
    """pip-audit did not print a result."""


def audit(lock: Path, command: Sequence[str] = _PIP_AUDIT) -> tuple[int, list[str]]:
    """Return the number of audited packages in a lock file, and one line per vulnerability.

    Raises:
        AuditError: if a package could not be audited, usually because the database cannot be reached. The message is
            the last line of pip-audit's output.
    """
    done = subprocess.run([*command, "--requirement", str(lock)], capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError as error:
        last = done.stderr.strip().rpartition("\n")[2]
        raise AuditError(last or f"pip-audit exited with code {done.returncode}") from error
    if skipped := [package["skip_reason"] for package in packages if "skip_reason" in package]:
        raise AuditError(f"{len(skipped)} of {len(packages)} packages were not audited: {skipped[0]}")
    return len(packages), [
        f"{package['name']} {package['version']}: {found['id']} ({', '.join(found['aliases']) or 'no other names'}), "
        f"fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for package in packages
        for found in package["vulns"]
    ]


def main(locks: Sequence[str]) -> int:
    """Print the vulnerabilities of each lock file and return the exit code."""
    vulnerable = False
    for lock in locks:
        try:
            count, lines = audit(Path(lock))
        except AuditError as error:
            print(f"audit: {lock} was not checked, because the vulnerability database at osv.dev cannot be reached:")
            print(f"  {error}")
            return 2
        print(f"{lock}: {count} packages, {len(lines)} known vulnerabilities")
        print("".join(f"  {line}\n" for line in lines), end="")
        vulnerable = vulnerable or bool(lines)
    return int(vulnerable)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
