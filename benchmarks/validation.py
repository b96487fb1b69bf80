"""What validating ImageNet costs: `python benchmarks/validation.py [--check] [--only PART …]`.

Three parts, each a file beside this one: the scan, the lists, the expectations. All figures are ratios within one run.
One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import validation_expectations
import validation_lists
import validation_scan
from targets import Target, measure_parts

# Each is given a temporary folder of its own.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "scan": validation_scan.measure,
    "lists": validation_lists.measure,
    "expectations": lambda _: validation_expectations.measure(),
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
