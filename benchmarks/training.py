"""Measures the overhead of the native trainer: `python benchmarks/training.py [--check] [--only PART …]`.

- `steps`: one step of one rank, compared with a bare training loop.
- `ranks`: two ranks, compared with one.
- `replicas`: the comparison of the ranks' weights and optimizer states.
- `engines`: an epoch, compared with PaddleClas (needs PADDLECLAS_HOME, the path of a checkout).

All figures are ratios within one run, on the CPU, with ResNet50 on the sample's images of 32 x 32 pixels. Compared
tasks alternate, so that they run under the same load.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

# Set before Paddle reads it. As in the sample, one core computes, and the other does the remaining work.
os.environ["OMP_NUM_THREADS"] = "1"
# Paddle's warnings at import are irrelevant here.
os.environ.setdefault("PYTHONWARNINGS", "ignore")

import training_engines
import training_ranks
import training_replicas
import training_steps
from targets import Target, measure_parts

# Each part gets a separate temporary folder.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "steps": training_steps.measure,
    "ranks": training_ranks.measure,
    "replicas": training_replicas.measure,
    "engines": training_engines.measure,
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
