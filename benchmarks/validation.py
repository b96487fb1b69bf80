"""What validating ImageNet costs: `python benchmarks/validation.py [--check] [--only PART …]`.

Three parts, each a file beside this one: the scan, the lists, the expectations. All figures are ratios within one run.
One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import validation_expectations
import validation_lists
import validation_scan
from targets import Target, report

# Each is given a temporary folder of its own.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "scan": validation_scan.measure,
    "lists": validation_lists.measure,
    "expectations": lambda _: validation_expectations.measure(),
}


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target does not hold")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts that are measured")
    options = parser.parse_args()
    targets: list[Target] = []
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix=f"validation-{part}-") as folder:
            targets += PARTS[part](Path(folder))
    return report(targets, is_checked=options.check)


if __name__ == "__main__":
    sys.exit(main())
