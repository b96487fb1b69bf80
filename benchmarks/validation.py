"""Measures the validation of ImageNet: `python benchmarks/validation.py [--check] [--only PART …]`.

The parts are the scan of the files, the check of the images before training, the list files and the expectations. The
speeds of the scan and of the lists are ratios within one run.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import validation_expectations
import validation_images
import validation_lists
import validation_scan
from targets import Target, measure_parts

# Each part gets a separate temporary folder.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "scan": validation_scan.measure,
    "images": validation_images.measure,
    "lists": validation_lists.measure,
    "expectations": lambda _: validation_expectations.measure(),
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
