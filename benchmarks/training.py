"""What the native trainer costs beside the bare arithmetic: `python benchmarks/training.py [--check] [--only PART …]`.

Parts, each a file beside this one: one step, two ranks, and the engine of PaddleClas itself (where PADDLECLAS_HOME
names a checkout). All figures are ratios within one run, on the CPU, with ResNet50 on the sample's 32-pixel images;
whatever is compared is taken in turn, so that both see the same machine.

One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# As the sample's ranks, and before Paddle reads it: a core for the arithmetic, one for whatever runs beside it.
os.environ["OMP_NUM_THREADS"] = "1"
# Paddle's own words at import say nothing here.
os.environ.setdefault("PYTHONWARNINGS", "ignore")

import training_engines
import training_ranks
import training_steps
from targets import Target, report

# Each is given a temporary folder of its own.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "steps": training_steps.measure,
    "ranks": training_ranks.measure,
    "engines": training_engines.measure,
}


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target does not hold")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts that are measured")
    options = parser.parse_args()
    targets: list[Target] = []
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix=f"training-{part}-") as folder:
            targets += PARTS[part](Path(folder))
    return report(targets, is_checked=options.check)


if __name__ == "__main__":
    sys.exit(main())
