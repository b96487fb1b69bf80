"""What the native trainer costs beside the bare arithmetic: `python benchmarks/training.py [--check] [--only PART …]`.

Parts, each a file beside this one: one step, two ranks, and the engine of PaddleClas itself (where PADDLECLAS_HOME
names a checkout). All figures are ratios within one run, on the CPU, with ResNet50 on the sample's 32-pixel images;
whatever is compared is taken in turn, so that both see the same machine.

One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

# As the sample's ranks, and before Paddle reads it: a core for the arithmetic, one for whatever runs beside it.
os.environ["OMP_NUM_THREADS"] = "1"
# Paddle's own words at import say nothing here.
os.environ.setdefault("PYTHONWARNINGS", "ignore")

import training_engines
import training_ranks
import training_steps
from targets import Target, measure_parts

# Each is given a temporary folder of its own.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "steps": training_steps.measure,
    "ranks": training_ranks.measure,
    "engines": training_engines.measure,
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
