"""How fast images come to the trainer: `python benchmarks/input_pipeline.py [--check] [--only PART …]`.

- `loose`: from loose JPEGs of about 500 pixels and 110 KB, worker transport included, on one core and on two, against
  PaddleClas' own loader (a checkout that PADDLECLAS_HOME names; without one, its operators written plainly), against
  Pillow in Paddle's loader, and against DALI's CPU operators (a python that DALI_PYTHON names, with
  nvidia-dali-cuda120).
- `shards`: from packed shards, in the same way; random reads on a cold cache; opening ImageNet's 1.28 million entries.

One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
"""

from __future__ import annotations

import sys

import input_pipeline_loose
import input_pipeline_shards
from targets import measure_parts

PARTS = {
    "loose": input_pipeline_loose.measure,
    "shards": input_pipeline_shards.measure,
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
