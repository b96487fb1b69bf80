"""Measures the throughput of the input pipeline: `python benchmarks/input_pipeline.py [--check] [--only PART …]`.

- `loose`: loads loose JPEGs of about 500 pixels and 110 KB on one core and on two, including the transfer from the
  workers. It compares this loader with PaddleClas' (set PADDLECLAS_HOME to a checkout; without one, a plain version of
  its operators is used), with Pillow in Paddle's DataLoader, and with DALI's CPU operators (set DALI_PYTHON to a Python
  with nvidia-dali-cuda120).
- `shards`: loads packed shards in the same way, reads random images with a cold cache, and opens ImageNet's 1.28
  million entries.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
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
